"""Losses that remember: the mean quality of SlideLossX, the gradients of EFL."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import pytest
import torch

import mmfocalx.losses
from helpers.cases import (
    CASES,
    CHANNELS,
    EFL_STATE,
    Batch,
    Case,
    make_batch,
)
from helpers.checks import (
    as_list,
    assert_close,
    expected_loss,
)
from mmfocalx.losses.one_pass import blocks

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def slide(**kwargs: Any) -> Any:
    return mmfocalx.losses.SlideLossX(**kwargs)


def slide_case() -> Case:
    (case,) = (case for case in CASES if case.type == 'SlideLossX')
    return case


@pytest.mark.parametrize('momentum', [0.0, 0.5, 0.9])
def test_slide_follows_the_mean_quality(momentum: float) -> None:
    case, kwargs = slide_case(), {'momentum': momentum}
    loss, running = slide(**kwargs), 0.2
    for step in range(5):
        batch = make_batch(case, 'tuple', seed=step)
        labels, quality = batch.target
        if step == 2:  # no positives: the running value stays
            labels.fill_(CHANNELS)
        got = loss(batch.pred, batch.target)
        expected = expected_loss(case, kwargs, batch, state={'running': running})
        assert_close(as_list(got), as_list(expected), 1e-7, f'step {step}')
        positive = quality[(labels < CHANNELS) & (quality > 0)]
        if positive.numel():
            running = momentum * running + (1 - momentum) * float(positive.mean())


def test_slide_running_mean_is_saved() -> None:
    case = slide_case()
    loss, other = slide(momentum=0.9), slide(momentum=0.9)
    for seed in range(3):
        batch = make_batch(case, 'tuple', seed=seed)
        loss(batch.pred, batch.target)
    other.load_state_dict(loss.state_dict())
    copied = pickle.loads(pickle.dumps(loss))
    batch = make_batch(case, 'dense', seed=7)
    expected = loss(batch.pred, batch.target)
    torch.testing.assert_close(other(batch.pred, batch.target), expected)
    torch.testing.assert_close(copied(batch.pred, batch.target), expected)
    assert float(slide(momentum=0.9)(batch.pred, batch.target)) != float(expected)


def test_slide_threshold_of_the_config_wins_over_a_checkpoint() -> None:
    loss, other = slide(auto_iou=0.6), slide(auto_iou=0.4)
    loss.load_state_dict(other.state_dict())
    pred, quality = torch.zeros(9, dtype=torch.float64), torch.linspace(0.1, 0.9, 9)
    expected = slide(auto_iou=0.6)(pred, quality, reduction_override='none')
    torch.testing.assert_close(loss(pred, quality, reduction_override='none'), expected)


def test_slide_does_not_average_over_ignored_rows() -> None:
    pred = torch.zeros(3, 1, dtype=torch.float64)
    target = (torch.tensor([0, 0, 255]), torch.tensor([0.55, 0.65, 0.05], dtype=torch.float64))
    losses = slide(ignore_index=255)(pred, target, reduction_override='none')
    weights = [math.exp(1 - 0.6), math.exp(1 - 0.65)]
    assert_close(as_list(losses)[:2], [w * math.log(2) for w in weights], 1e-6, 'loss')


def test_slide_warns_once_about_hard_targets() -> None:
    case = slide_case()
    batch, soft = make_batch(case, 'labels'), make_batch(case, 'tuple')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        slide()(soft.pred, soft.target)
    loss = slide()
    with pytest.warns(UserWarning, match='SlideLossX'):
        got = loss(batch.pred, batch.target)
    torch.testing.assert_close(
        got, mmfocalx.losses.FocalLossX(gamma=0.0, alpha=None)(batch.pred, batch.target)
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        loss(batch.pred, batch.target)


def efl(**kwargs: Any) -> Any:
    return mmfocalx.losses.EqualizedFocalLossX(num_classes=CHANNELS, **kwargs)


def efl_case() -> Case:
    (case,) = (case for case in CASES if case.type == 'EqualizedFocalLossX')
    return case


def no_gradient_yet() -> dict[str, list[float]]:
    return {name: [0.0] * CHANNELS for name in EFL_STATE}


def efl_step(loss: Any, batch: Batch, state: dict[str, list[float]]) -> None:
    """One training step; checks value and gradient, adds the gradient to ``state``."""
    case = efl_case()
    pred = batch.pred.clone().requires_grad_()
    got = loss(pred, batch.target, batch.weight)
    assert_close(as_list(got), as_list(expected_loss(case, {}, batch, state=state)), 1e-6, 'loss')
    got.backward()
    _, labels, quality = batch.reference_target()
    assert pred.grad is not None
    for i, row in enumerate(pred.grad.abs().tolist()):
        for c, value in enumerate(row):
            positive = labels[i] == c and quality[i] > 0
            state['pos_grad' if positive else 'neg_grad'][c] += value


def test_efl_accumulates_gradients_over_steps() -> None:
    loss, state = efl(), no_gradient_yet()
    for step in range(5):
        efl_step(loss, make_batch(efl_case(), 'tuple', seed=step, weight=(9,)), state)
    loss.eval()
    for seed in (10, 11):  # evaluation uses the statistics and leaves them alone
        batch = make_batch(efl_case(), 'tuple', seed=seed)
        pred = batch.pred.clone().requires_grad_()
        got = loss(pred, batch.target)
        expected = expected_loss(efl_case(), {}, batch, state=state)
        assert_close(as_list(got), as_list(expected), 1e-6, 'evaluation')
        got.backward()
    loss.train()
    efl_step(loss, make_batch(efl_case(), 'tuple', seed=12, weight=(9,)), state)


@pytest.mark.parametrize('form', ['labels', 'tuple', 'dense'])
def test_efl_counts_precisely_within_autocast(form: str) -> None:
    batch, counted = make_batch(efl_case(), form, seed=3), []
    for mixed in (False, True):
        loss, pred = efl(), batch.pred.float().requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
            loss(pred, batch.target).backward()
        counted.append(torch.stack([loss.pos_grad, loss.neg_grad]))
    assert counted[0].any()
    torch.testing.assert_close(*counted)


@pytest.mark.parametrize('rows', [1, 2, 100])
@pytest.mark.parametrize('form', ['labels', 'tuple', 'dense'])
def test_efl_counts_block_by_block(form: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, 'BLOCK', rows * CHANNELS)
    ignore = None if form == 'dense' else -5
    batch = make_batch(efl_case(), form, ignore=ignore, weight=(9,), seed=3)
    loss, pred = efl(ignore_index=ignore), batch.pred.clone().requires_grad_()
    loss(pred, batch.target, batch.weight).backward()
    assert pred.grad is not None
    counted = no_gradient_yet()
    labels = batch.target[0] if form == 'tuple' else batch.target
    for i, row in enumerate(pred.grad.abs().tolist()):
        for c, value in enumerate(row):
            if form == 'dense':
                positive = batch.target[i, c] > 0
            else:
                positive = labels[i] == c and (form == 'labels' or batch.target[1][i] > 0)
            counted['pos_grad' if positive else 'neg_grad'][c] += value
    for name in EFL_STATE:
        assert_close(getattr(loss, name).tolist(), counted[name], 1e-6, name)
    assert all(sum(sums) > 0 for sums in counted.values())


def test_efl_starts_as_focal_loss() -> None:
    batch = make_batch(efl_case(), 'tuple')
    focal = mmfocalx.losses.FocalLossX()(batch.pred, batch.target)
    torch.testing.assert_close(efl()(batch.pred, batch.target), focal)


@pytest.mark.parametrize('way', ['state_dict', 'pickle', 'deepcopy'])
def test_efl_statistics_are_saved(way: str) -> None:
    """A state taken between two steps loses nothing of the step before."""
    loss, state = efl(), no_gradient_yet()
    for step in range(3):
        efl_step(loss, make_batch(efl_case(), 'tuple', seed=step), state)
    if way == 'state_dict':
        other = efl()
        other.load_state_dict(loss.state_dict())
    else:
        other = copy.deepcopy(loss) if way == 'deepcopy' else pickle.loads(pickle.dumps(loss))
    for step in range(3, 5):
        efl_step(other, make_batch(efl_case(), 'tuple', seed=step), state)


def test_efl_without_gradient_accumulates_nothing() -> None:
    loss, state = efl(), no_gradient_yet()
    batch = make_batch(efl_case(), 'tuple')
    with torch.no_grad():
        loss(batch.pred, batch.target)
    efl_step(loss, batch, state)
    efl_step(loss, batch, state)


def test_efl_accumulates_gradients_of_logits_where_it_gets_probabilities() -> None:
    batch = make_batch(efl_case(), 'tuple')
    from_logits, from_probabilities = efl(), efl(activated=True)
    for _ in range(2):
        pred = batch.pred.clone().requires_grad_()
        from_logits(pred, batch.target).backward()
        from_probabilities(pred.sigmoid(), batch.target).backward()
    torch.testing.assert_close(
        from_probabilities(batch.pred.sigmoid(), batch.target),
        from_logits(batch.pred, batch.target),
        rtol=1e-6,
        atol=0.0,
    )


@pytest.mark.parametrize('factor', [2.0**16, 1e-3, math.inf])
def test_efl_does_not_count_a_factor_from_upstream(factor: float) -> None:
    """Such as a loss scale, which may overflow."""
    scaled, plain = efl(), efl()
    for step in range(3):
        batch = make_batch(efl_case(), 'tuple', seed=step)
        for loss, upstream in ((scaled, factor), (plain, 1.0)):
            (loss(batch.pred.clone().requires_grad_(), batch.target) * upstream).backward()
    torch.testing.assert_close(scaled.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('activated', [False, True])
def test_efl_keeps_no_graph_in_its_state(activated: bool, reduction: str) -> None:
    batch = make_batch(efl_case(), 'tuple', activated=activated)
    loss = efl(activated=activated, reduction=reduction)
    for _ in range(3):
        pred = batch.pred.clone().requires_grad_()
        loss(pred, batch.target).sum().backward()
        assert not loss.pos_grad.requires_grad and not loss.neg_grad.requires_grad
    assert loss.pos_grad.any() and loss.neg_grad.any()


@pytest.mark.parametrize('labels', [True, False])
def test_equalized_focal_has_no_subnormal_gradients(labels: bool) -> None:
    """A CPU is slow with them, and large exponents make them of the logits of a trained model."""
    loss = mmfocalx.losses.EqualizedFocalLossX(num_classes=1, fused=False).eval()
    loss.neg_grad.fill_(1)  # the exponent is 10
    pred = torch.linspace(-30, 0, 3001)[:, None].requires_grad_()
    target = torch.ones(3001, dtype=torch.long) if labels else torch.zeros(3001, 1)
    value = loss(pred, target, avg_factor=1000.0)
    value.backward()
    size = pred.grad.abs()
    assert not ((size > 0) & (size < torch.finfo(torch.float32).tiny)).any()
    assert (size[pred < -5] > 0).any()
    x = pred.detach().double()
    assert float(value) == pytest.approx(
        float((5 * 0.75 * x.sigmoid() ** 10 * torch.nn.functional.softplus(x)).sum() / 1000), 1e-5
    )
