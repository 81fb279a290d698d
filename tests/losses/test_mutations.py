"""The checks of this suite can fail: break the losses in one place, and the check that looks there
raises. Every mutation is first shown to be a mutation: the same check passes on the whole code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch

import mmfocalx.losses
from helpers.cases import CASES, CHANNELS, Case, make_batch
from helpers.checks import (
    check_both,
    check_box_loss,
    check_gradient,
    check_ignored,
    check_loss_weight,
    check_value,
)
from helpers.masks_and_boxes import boxes
from mmfocalx.losses import base, batch
from mmfocalx.losses.base import DenseClsLoss
from mmfocalx.losses.one_pass.elementary import Elementary

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

Mutate = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Case], Any]


def constant_mean(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(base, 'divisor', lambda *_: 36.0)


def mean_ignores_avg_factor(patch: pytest.MonkeyPatch) -> None:
    whole = base.divisor
    patch.setattr(base, 'divisor', lambda name, _, count: whole(name, None, count))


def ignored_rows_counted(patch: pytest.MonkeyPatch) -> None:
    whole = DenseClsLoss.count
    patch.setattr(
        DenseClsLoss, 'count', lambda loss, given: whole(loss, given._replace(valid=None))
    )


def ignored_rows_are_background(patch: pytest.MonkeyPatch) -> None:
    whole = DenseClsLoss.entries

    def mutant(loss: DenseClsLoss, given: Any, *f: Any) -> Any:
        return whole(loss, given._replace(valid=None), *f)

    patch.setattr(DenseClsLoss, 'entries', mutant)


def ignored_rows_mined(patch: pytest.MonkeyPatch) -> None:
    whole = base.hardest
    patch.setattr(base, 'hardest', lambda loss, ratio, _: whole(loss, ratio, None))


def easiest_mined(patch: pytest.MonkeyPatch) -> None:
    whole = base.hardest
    patch.setattr(base, 'hardest', lambda loss, *rest: whole(-loss, *rest))


def loss_weight_dropped(patch: pytest.MonkeyPatch) -> None:
    one = property(lambda _: 1.0, lambda *_: None)
    patch.setattr(DenseClsLoss, 'loss_weight', one, raising=False)


def row_weights_taken_per_class(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch, 'check_weight', lambda weight, *_: weight[None])


def positives_decided_after_smoothing(patch: pytest.MonkeyPatch) -> None:
    for name in ('positive', 'matched'):
        patch.setattr(batch.Target, name, property(lambda t: t.score > 0))


def smoothing_over_all_classes(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: DenseClsLoss, t: Any) -> Any:
        share = self.label_smoothing
        return t._replace(score=t.score * (1 - share) + share / t.score.shape[1], hard=False)

    patch.setattr(DenseClsLoss, '_smoothed', mutant)


def missing_stop_gradient(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.Tensor, 'detach', lambda tensor: tensor)
    patch.setattr(torch, 'no_grad', nullcontext)


def spurious_stop_gradient(patch: pytest.MonkeyPatch) -> None:
    whole = Elementary.power
    patch.setattr(Elementary, 'power', lambda f, x, exponent: whole(f, x.detach(), exponent))


def plain(case: Case) -> None:
    check_both(case, {}, make_batch(case, lead=(5,)))


def with_avg_factor(case: Case) -> None:
    check_value(case, {}, make_batch(case), avg_factor=4.0)


def ignored(case: Case) -> None:
    check_ignored(case, {}, make_batch(case, ignore=255), 255)


def ignored_and_mined(case: Case) -> None:
    check_ignored(case, {'ohem_ratio': 0.5}, make_batch(case, ignore=255), 255)


def mined(case: Case) -> None:
    check_value(case, {'ohem_ratio': 0.5}, make_batch(case))


def weighted_loss(case: Case) -> None:
    check_loss_weight(case, {}, make_batch(case))


def as_many_rows_as_classes(case: Case) -> None:
    batch = make_batch(case, lead=(CHANNELS,), weight=(CHANNELS,))
    check_value(case, {}, batch, reduction_override='sum')


def smoothed(case: Case) -> None:
    check_value(case, {'label_smoothing': 0.2}, make_batch(case))


def gradient(case: Case) -> None:
    check_gradient(case, {}, make_batch(case, 'tuple'))


def detaches(case: Case, _: Mutate) -> bool:
    return bool(case.kind.stops_gradient_at)


def every(case: Case, _: Mutate) -> bool:
    return True


def changed(case: Case, mutate: Mutate) -> bool:
    """Whether a mutation changes the value or the gradient of smoothed, soft targets."""

    def computed() -> tuple[torch.Tensor, torch.Tensor]:
        batch = make_batch(case, 'tuple')
        pred = batch.pred.requires_grad_()
        value = case.build({'label_smoothing': 0.2})(pred, batch.target)
        return value.detach(), torch.autograd.grad(value, pred)[0]

    whole = computed()
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        broken = computed()
    return any(not torch.allclose(a, b) for a, b in zip(whole, broken, strict=True))


MUTATIONS: list[tuple[Mutate, Check, Callable[[Case, Mutate], bool]]] = [
    (constant_mean, plain, every),
    (mean_ignores_avg_factor, with_avg_factor, every),
    (ignored_rows_counted, ignored, every),
    (ignored_rows_are_background, ignored, every),
    (ignored_rows_mined, ignored_and_mined, every),
    (easiest_mined, mined, every),
    (loss_weight_dropped, weighted_loss, every),
    (row_weights_taken_per_class, as_many_rows_as_classes, every),
    (positives_decided_after_smoothing, smoothed, changed),
    (smoothing_over_all_classes, smoothed, every),
    (missing_stop_gradient, gradient, detaches),
    (spurious_stop_gradient, gradient, changed),
]


@pytest.mark.parametrize(
    ('mutate', 'check', 'is_to_be_caught'),
    MUTATIONS,
    ids=[mutate.__name__ for mutate, *_ in MUTATIONS],
)
def test_mutation_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    mutate: Mutate,
    check: Check,
    is_to_be_caught: Callable[[Case, Mutate], bool],
) -> None:
    cases = [case for case in CASES if not case.softmax and is_to_be_caught(case, mutate)]
    assert len(cases) > 1
    for case in cases:
        check(case)
        with monkeypatch.context() as patch:
            mutate(patch)
            with pytest.raises(AssertionError):
                check(case)


def test_missing_stop_gradient_of_boxes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    check = partial(check_box_loss, mmfocalx.losses.FocalEIoULossX(), {}, *boxes(4))
    check()
    missing_stop_gradient(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_sums_over_classes_are_not_means_over_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain mean of a loss that sums over classes divides by N, not by N * C."""
    case = next(case for case in CASES if case.kind.sums_classes)
    whole = base.divisor
    plain(case)
    monkeypatch.setattr(base, 'divisor', lambda *a: CHANNELS * whole(*a))
    with pytest.raises(AssertionError):
        plain(case)
