"""Ignored rows, smoothing, hard examples, probabilities, and all at random."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.cases import (
    CHANNELS,
    Batch,
    Case,
    each_case,
    each_reduction,
    each_sigmoid_case,
    each_variation,
    make_batch,
    weight_shapes,
)
from helpers.checks import (
    check_both,
    check_finite,
    check_ignored,
    check_value,
    check_zero_with_gradient,
)

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


# -- ignore, smoothing, hard examples, probabilities ----------------------------------------------


@pytest.mark.parametrize('ignore', [-1, -100, 255, 0, 2])
@each_case
def test_ignored_rows(case: Case, ignore: int) -> None:
    for form in set(case.forms) - {'dense'}:
        for lead in [(9,), (2, 5)]:
            check_ignored(case, {}, make_batch(case, form, lead=lead, ignore=ignore), ignore)
    weighted = make_batch(case, ignore=ignore, weight=(9, CHANNELS))
    check_ignored(case, {}, weighted, ignore)
    check_both(case, {'ignore_index': ignore}, weighted, avg_factor=4.0)


@each_sigmoid_case
def test_background_can_be_ignored(case: Case) -> None:
    check_ignored(case, {}, make_batch(case, ignore=CHANNELS), CHANNELS)


@each_case
def test_ignore_index_leaves_dense_targets_alone(case: Case) -> None:
    check_both(case, {'ignore_index': 0}, make_batch(case, 'dense'))


@each_case
def test_ignore_index_without_ignored_rows(case: Case) -> None:
    check_both(case, {'ignore_index': 255}, make_batch(case))


@each_variation
def test_label_smoothing(case: Case, kwargs: dict[str, Any]) -> None:
    for smoothing in (0.1, 0.5):
        for form in case.forms:
            check_both(case, {**kwargs, 'label_smoothing': smoothing}, make_batch(case, form))


@pytest.mark.parametrize('ratio', [0.3, 1e-6])
@each_variation
def test_ohem(case: Case, kwargs: dict[str, Any], ratio: float) -> None:
    kwargs = {**kwargs, 'ohem_ratio': ratio}
    batch = make_batch(case, case.forms[-1], lead=(10,), weight=(10, CHANNELS))
    check_both(case, kwargs, batch)
    check_value(case, kwargs, batch, avg_factor=2.0)
    losses = check_value(case, kwargs, batch, reduction_override='none')
    assert int((losses != 0).sum()) <= math.ceil(ratio * losses.numel())


@pytest.mark.parametrize('ratio', [0.2, 0.9])
@each_variation
def test_ohem_does_not_count_ignored_rows(case: Case, kwargs: dict[str, Any], ratio: float) -> None:
    kwargs = {**kwargs, 'ohem_ratio': ratio, 'label_smoothing': 0.05}
    check_ignored(case, kwargs, make_batch(case, lead=(7,), ignore=255), 255)


@each_variation
def test_probabilities(case: Case, kwargs: dict[str, Any]) -> None:
    if case.softmax:
        return
    for form in case.forms:
        batch = make_batch(case, form, activated=True, weight=(9,))
        check_both(case, {**kwargs, 'activated': True}, batch)


@each_sigmoid_case
def test_probabilities_equal_logits(case: Case) -> None:
    batch = make_batch(case, 'tuple')
    logits = batch.pred.requires_grad_()
    from_logits = case.build({})(logits, batch.target)
    from_probabilities = case.build({'activated': True})(logits.sigmoid(), batch.target)
    torch.testing.assert_close(from_probabilities, from_logits)
    grad = torch.autograd.grad(from_probabilities, logits)[0]
    torch.testing.assert_close(grad, torch.autograd.grad(from_logits, logits)[0])


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@each_sigmoid_case
def test_saturated_probabilities_are_clipped(case: Case, dtype: torch.dtype) -> None:
    pred = torch.tensor([0.0, 1.0, 1e-9, 1 - 1e-9], dtype=dtype).repeat_interleave(CHANNELS)
    for target in (torch.tensor([0, 1, 2, 4]), torch.tensor([4, 4, 4, 0])):
        batch = Batch(pred.view(4, CHANNELS), target)
        _, grad = check_finite(case, {'activated': True}, batch)
        assert grad.abs().max() < 1e8
        if dtype == torch.float64:
            check_value(case, {'activated': True}, batch)


# -- nothing to learn from ------------------------------------------------------------------------


@pytest.mark.parametrize('lead', [(0,), (2, 0), (0, 3)], ids=str)
@each_reduction
@each_case
def test_empty(case: Case, reduction: str, lead: tuple[int, ...]) -> None:
    for form in case.forms:
        for ohem_ratio in (None, 0.5):
            batch = make_batch(case, form, lead=lead, weight=lead)
            kwargs = {'ohem_ratio': ohem_ratio}
            check_zero_with_gradient(case, kwargs, batch, reduction_override=reduction)
    if reduction == 'mean':
        batch = make_batch(case, lead=lead)
        for avg_factor in (0.0, 2, torch.tensor([0.0])):
            check_zero_with_gradient(case, {}, batch, avg_factor=avg_factor)


@each_reduction
@each_case
def test_all_rows_ignored(case: Case, reduction: str) -> None:
    batch = make_batch(case)
    batch.target.fill_(-1)
    for ohem_ratio in (None, 0.5):
        kwargs = {'ignore_index': -1, 'ohem_ratio': ohem_ratio}
        check_zero_with_gradient(case, kwargs, batch, reduction_override=reduction)
    check_zero_with_gradient(case, {'ignore_index': -1}, batch, avg_factor=0.0)


@each_case
def test_empty_binary(case: Case) -> None:
    check_zero_with_gradient(case, {}, Batch(torch.zeros(0), torch.zeros(0)))


# -- random combinations --------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn, case: Case) -> tuple[dict[str, Any], Batch, dict[str, Any]]:
    four = draw(st.booleans())
    # per-class arguments of the table have four elements
    channels = CHANNELS if four else draw(st.integers(1, 5))
    varied = [
        k for k in case.variations if four or not any(isinstance(v, list) for v in k.values())
    ]
    kwargs = dict(draw(st.sampled_from(varied)))
    lead = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    form = draw(st.sampled_from(case.forms))
    kwargs['label_smoothing'] = draw(st.sampled_from([0.0, 0.2]))
    kwargs['ohem_ratio'] = draw(st.sampled_from([None, 0.1, 0.25, 0.7]))
    kwargs['loss_weight'] = draw(st.sampled_from([1.0, 0.3]))
    ignore = draw(st.sampled_from([None, -1, 0, 255])) if form != 'dense' else None
    kwargs['ignore_index'] = ignore
    kwargs['activated'] = not case.softmax and draw(st.booleans())
    weight = draw(st.sampled_from([None, *weight_shapes(lead, channels)]))
    batch = make_batch(
        case,
        form,
        lead=lead,
        channels=channels,
        seed=draw(st.integers(0, 10**6)),
        ignore=ignore,
        weight=weight,
        activated=kwargs['activated'],
    )
    reduction = draw(st.sampled_from(['none', 'mean', 'sum']))
    call: dict[str, Any] = {'reduction_override': reduction}
    if reduction != 'sum':
        call['avg_factor'] = draw(st.sampled_from([None, 2.5]))
    return kwargs, batch, call


@each_case
def test_random_combinations(case: Case) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(calls(case))
    def check(drawn: tuple[dict[str, Any], Batch, dict[str, Any]]) -> None:
        kwargs, batch, call = drawn
        check_both(case, kwargs, batch, **call)

    check()
