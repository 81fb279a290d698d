"""Every classification loss against the scalar loop: formula, target forms, shapes, reduction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from helpers.cases import (
    CASES,
    CHANNELS,
    SIGMOID_CASES,
    Batch,
    Case,
    each_case,
    each_reduction,
    each_sigmoid_case,
    each_variation,
    make_batch,
    name,
    weight_shapes,
)
from helpers.checks import (
    backward,
    check_both,
    check_gradient,
    check_loss_weight,
    check_value,
)

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


# -- formulas -------------------------------------------------------------------------------------


@each_variation
def test_formula(case: Case, kwargs: dict[str, Any]) -> None:
    for seed, form in enumerate(case.forms):
        batch = make_batch(case, form, seed=seed)
        check_both(case, kwargs, batch)
        check_value(case, kwargs, batch, reduction_override='none')


@each_variation
def test_formula_in_float32(case: Case, kwargs: dict[str, Any]) -> None:
    for seed, form in enumerate(case.forms):
        check_both(case, kwargs, make_batch(case, form, seed=seed, dtype=torch.float32))


@pytest.mark.parametrize('activated', [False, True], ids=['logits', 'probabilities'])
@each_case
def test_gradcheck(case: Case, activated: bool) -> None:
    if case.softmax and activated:
        activated = False
    # A term without gradient has to be constant; that of binary cross-entropy is.
    own = (case.kind.bce_settings or {}) if case.kind.stops_gradient_at else {}
    loss = case.build({**own, 'activated': activated})
    for form in case.forms:
        batch = make_batch(case, form, lead=(4,), weight=(4, CHANNELS), activated=activated)
        pred = batch.pred.requires_grad_()

        def f(pred: torch.Tensor, batch: Batch = batch) -> Any:
            return loss(pred, batch.target, batch.weight, reduction_override='none')

        assert torch.autograd.gradcheck(f, (pred,))


@pytest.mark.parametrize(
    'case', [case for case in SIGMOID_CASES if case.kind.bce_settings is not None], ids=name
)
def test_reduces_to_bce(case: Case) -> None:
    """Hard targets: every loss with its modulation switched off is torch's BCE with logits."""
    batch = make_batch(case, 'labels')
    dense = F.one_hot(batch.target, CHANNELS + 1)[:, :CHANNELS].double()
    pred = batch.pred.requires_grad_()
    expected = F.binary_cross_entropy_with_logits(pred, dense, reduction='sum')
    got = case.build(case.kind.bce_settings)(pred, batch.target, reduction_override='sum')
    torch.testing.assert_close(got, expected)
    (grad,) = torch.autograd.grad(got, pred)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, pred)[0])


def test_softmax_focal_reduces_to_cross_entropy() -> None:
    (case,) = (case for case in CASES if case.softmax)
    batch = make_batch(case)
    kwargs = {**case.kind.bce_settings, 'label_smoothing': 0.1}
    got = case.build(kwargs)(batch.pred, batch.target)
    expected = F.cross_entropy(batch.pred, batch.target, label_smoothing=0.1)
    torch.testing.assert_close(got, expected)


# -- target forms ---------------------------------------------------------------------------------


def scatter(labels: torch.Tensor, quality: torch.Tensor, channels: int) -> torch.Tensor:
    """The dense form, by a loop."""
    dense = torch.zeros(*labels.shape, channels, dtype=quality.dtype)
    for index in range(labels.numel()):
        label = int(labels.flatten()[index])
        if label < channels:
            dense.view(-1, channels)[index, label] = quality.flatten()[index]
    return dense


@pytest.mark.parametrize('lead', [(2, 4)], ids=str)
@each_variation
def test_target_forms_are_equivalent(
    case: Case, kwargs: dict[str, Any], lead: tuple[int, ...]
) -> None:
    batch = make_batch(case, 'labels', lead=lead)
    ones = torch.ones(lead, dtype=torch.float64)
    lowest = 0.01 if case.zero_quality_is_positive else 0.0
    quality = torch.linspace(lowest, 1, ones.numel(), dtype=torch.float64).view(lead)
    hard = scatter(batch.target, ones, CHANNELS)
    groups: list[list[Any]] = [
        [batch.target, batch.target.int(), hard, hard.long(), hard.bool(), hard.half()]
    ]
    if not case.softmax:
        groups[0].append((batch.target, ones))
        groups.append([(batch.target, quality), scatter(batch.target, quality, CHANNELS)])
    for group in groups:
        results = []
        for target in group:
            pred = batch.pred.clone().requires_grad_()
            losses = case.build(kwargs)(pred, target, reduction_override='none')
            results.append((losses, backward(losses, pred)))
        for losses, grad in results[1:]:
            torch.testing.assert_close(losses, results[0][0])
            torch.testing.assert_close(grad, results[0][1])


@each_sigmoid_case
def test_quality_zero_is_a_negative(case: Case) -> None:
    batch = make_batch(case, 'labels')
    background = torch.full_like(batch.target, CHANNELS)
    zero = torch.zeros(9, dtype=torch.float64)
    loss, targets = case.build({}), [(batch.target, zero), scatter(batch.target, zero, CHANNELS)]
    for target in targets[1:] if case.zero_quality_is_positive else targets:
        torch.testing.assert_close(loss(batch.pred, target), loss(batch.pred, background))


def test_a_match_without_overlap_is_a_positive_in_three_losses() -> None:
    """As in their authors' codes: DEIM, Align-DETR, Stable-DINO."""
    found = {case.type for case in CASES if case.zero_quality_is_positive}
    assert found == {'MALossX', 'IABCELossX', 'PositionSupervisedLossX'}
    x = torch.tensor([[-4.0]], dtype=torch.float64, requires_grad=True)
    p = 1 / (1 + math.exp(4))
    slopes = {  # of BCE(x, 0); of BCE(x, 0.01); of 0.25 p^2 BCE(x, 0)
        'MALossX': p,
        'IABCELossX': p - 0.01,
        'PositionSupervisedLossX': 0.25 * p * p * (p + 2 * (1 - p) * -math.log(1 - p)),
    }
    for loss, slope in slopes.items():
        for quality in (0.0, 1e-12):
            target = torch.tensor([0]), torch.tensor([quality], dtype=torch.float64)
            value = MODELS.build(dict(type=loss))(x, target)
            (gradient,) = torch.autograd.grad(value, x)
            assert gradient.item() == pytest.approx(slope, rel=1e-6), (loss, quality)


@each_case
def test_integer_target_of_the_shape_of_pred_is_dense(case: Case) -> None:
    """Binary logits ``(N, 1)`` and ``(N,)``, and even ``(2, 2)`` labels for ``(2, 2)`` logits."""
    for shape in [(6, 1), (6,), (2, 2)]:
        target = torch.arange(math.prod(shape)).view(shape) % 2
        batch = Batch(torch.randn(shape, dtype=torch.float64), target)
        check_both(case, {}, batch)


# -- shapes ---------------------------------------------------------------------------------------


@each_variation
def test_unreduced_shape(case: Case, kwargs: dict[str, Any]) -> None:
    for lead in [(9,), (2, 5), (2, 1, 3), (1,)]:
        batch = make_batch(case, lead=lead)
        losses = check_value(case, kwargs, batch, reduction_override='none')
        expected = lead if case.sum_classes(kwargs) else (*lead, CHANNELS)
        assert losses.shape == expected


@each_case
def test_one_dimensional_pred_means_one_class(case: Case) -> None:
    batch = make_batch(case, 'dense', one_dimensional=True)
    check_both(case, {}, batch)
    assert check_value(case, {}, batch, reduction_override='none').shape == (9,)
    if not case.softmax:
        batch = make_batch(case, 'tuple', one_dimensional=True)
        column = Batch(batch.pred[:, None], batch.target)
        check_both(case, {}, batch)
        torch.testing.assert_close(check_value(case, {}, batch), check_value(case, {}, column))


@pytest.mark.parametrize('lead', [(9,), (CHANNELS,), (2, 5), (CHANNELS, 2), (1, 3)], ids=str)
@each_case
def test_weight_shapes(case: Case, lead: tuple[int, ...]) -> None:
    """With N == C a weight of shape (N,) is one weight per row."""
    for shape in weight_shapes(lead, CHANNELS):
        batch = make_batch(case, lead=lead, weight=shape)
        for reduction in ('none', 'mean'):
            check_value(case, {}, batch, reduction_override=reduction)
    check_gradient(case, {}, make_batch(case, lead=lead, weight=(*lead, CHANNELS)))


@each_case
def test_weight_of_one_dimensional_pred(case: Case) -> None:
    for shape in [(9,), (9, 1)]:
        check_both(case, {}, make_batch(case, 'dense', one_dimensional=True, weight=shape))


@each_case
def test_weight_may_be_of_another_precision(case: Case) -> None:
    batch = make_batch(case, weight=(9, CHANNELS))
    assert batch.weight is not None
    for weight in (batch.weight.float(), (batch.weight > 0.5).long()):
        check_both(case, {}, Batch(batch.pred, batch.target, weight))


# -- reduction ------------------------------------------------------------------------------------


@each_reduction
@each_case
def test_reduction(case: Case, reduction: str) -> None:
    batch = make_batch(case, weight=(9,))
    check_both(case, {'reduction': reduction}, batch)
    for constructed in ('none', 'mean', 'sum'):
        check_value(case, {'reduction': constructed}, batch, reduction_override=reduction)


@pytest.mark.parametrize(
    'avg_factor',
    [3, 3.5, 0.0, torch.tensor(3.5), torch.tensor([3.5]), torch.tensor([[7]])],
    ids=repr,
)
@each_case
def test_avg_factor(case: Case, avg_factor: Any) -> None:
    batch = make_batch(case, weight=(9, 1))
    check_both(case, {}, batch, avg_factor=avg_factor, rtol=1e-6)  # a tensor keeps its precision
    none = check_value(case, {'reduction': 'none'}, batch, avg_factor=avg_factor)
    assert none.ndim > 0


@each_case
def test_loss_weight(case: Case) -> None:
    check_loss_weight(case, {}, make_batch(case))
    check_both(case, {'loss_weight': 0.5}, make_batch(case), avg_factor=2.0)


@each_case
def test_gradient_behind_a_factor(case: Case) -> None:
    """The gradient that arrives from behind is used, not taken to be one."""
    batch = make_batch(case, weight=(9,))
    grads = []
    for factor in (1.0, 3.0):
        pred = batch.pred.clone().requires_grad_()
        (case.build({})(pred, batch.target, batch.weight) * factor).backward()
        grads.append(pred.grad)
    torch.testing.assert_close(grads[1], 3 * grads[0])
