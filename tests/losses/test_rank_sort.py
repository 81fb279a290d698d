"""Rank & Sort loss against the loop over the positives that defines it."""

from __future__ import annotations

import pytest
import torch

from helpers.rank_sort_by_hand import (
    CLASSES,
    assert_same,
    by_hand,
    of_loss,
    random_batch,
    scattered,
    with_tensors,
)
from mmfocalx.losses import RankSortLossX
from mmfocalx.losses.ramps import ALL_OF_16_BITS

DELTAS = (0.5, 0.05, 1.7, 20.0)


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('delta', DELTAS)
@pytest.mark.parametrize('seed', range(3))
def test_equals_the_definition(delta: float, seed: int, tied: bool) -> None:
    pred, labels, quality = random_batch(seed=seed, tied=tied)
    expected = by_hand(pred, scattered(labels, quality), delta)
    loss = RankSortLossX(delta=delta, reduction='none')
    assert_same(of_loss(loss, pred, (labels, quality)), expected, 1e-12)


@pytest.mark.parametrize('rows', [30_000, 300])
@pytest.mark.parametrize('delta', DELTAS)
@pytest.mark.parametrize(
    ('dtype', 'tol'), [(torch.float64, 1e-11), (torch.float32, 2e-7), (torch.bfloat16, 4e-3)]
)
def test_equals_the_definition_on_many(
    dtype: torch.dtype, tol: float, delta: float, rows: int
) -> None:
    """Enough numbers for every way of looking up a bin."""
    pred, labels, quality = random_batch(rows, 100, tied=True, dtype=dtype)
    assert rows == 300 or pred.numel() > ALL_OF_16_BITS
    scores = scattered(labels, quality)
    x, positive = pred.double(), scores > 0
    parts = with_tensors(x[positive], scores[positive], x[~positive], delta)
    loss = RankSortLossX(delta=delta, reduction='none')
    value, gradient = of_loss(loss, pred, (labels, quality))
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    got = value[positive], gradient[positive], gradient[~positive]
    for one, other in zip(got, parts, strict=True):
        assert (one.double() - other).abs().max() <= tol * other.abs().max()


def test_the_two_references_agree() -> None:
    pred, labels, quality = random_batch(tied=True)
    scores = scattered(labels, quality)
    positive = scores > 0
    value, gradient = by_hand(pred, scores, 0.3)
    parts = with_tensors(pred[positive], scores[positive], pred[~positive], 0.3)
    expected = value[positive], gradient[positive], gradient[~positive]
    torch.testing.assert_close(parts, expected, rtol=1e-12, atol=1e-12)


def test_reductions() -> None:
    pred, labels, quality = random_batch()
    errors, gradient = by_hand(pred, scattered(labels, quality))
    for call, divisor in (
        ({}, 9),
        ({'reduction_override': 'sum'}, 1),
        ({'avg_factor': 4.0}, 4 + torch.finfo(torch.float32).eps),
        ({'avg_factor': torch.tensor([4.0])}, 4 + torch.finfo(torch.float32).eps),
    ):
        loss = RankSortLossX(loss_weight=2.5)
        value, got = of_loss(loss, pred, (labels, quality), factors=3.0, **call)
        assert value.shape == ()
        expected = 2.5 / divisor * errors.sum(), 7.5 / divisor * gradient
        assert_same((value, got), expected, 1e-7)


def test_every_error_has_its_own_factor() -> None:
    pred, labels, quality = random_batch(seed=4)
    factors = torch.randn(pred.shape, generator=torch.Generator().manual_seed(1)).double()
    expected = by_hand(pred, scattered(labels, quality), factors=factors)
    loss = RankSortLossX(reduction='none')
    assert_same(of_loss(loss, pred, (labels, quality), factors=factors), expected, 1e-12)


@pytest.mark.parametrize('shape', [(60,), (60, 1), (60, CLASSES), (60 * CLASSES,)])
def test_ignored_rows_and_masks(shape: tuple[int, ...]) -> None:
    pred, labels, quality = random_batch(positives=30, seed=2)
    labels[::7] = 255
    pred[::7] = float('nan')
    weight = (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7) * 2.0
    counted = weight.reshape(60, -1).expand(60, CLASSES) != 0
    counted = counted & (labels != 255)[:, None]
    expected = by_hand(pred, scattered(labels, quality), counted=counted)
    loss = RankSortLossX(reduction='none', ignore_index=255)
    got = of_loss(loss, pred, (labels, quality), weight)
    assert_same(got, expected, 1e-12)
    assert (got[1][~counted] == 0).all()
    counts = int((counted & (scattered(labels, quality) > 0)).sum())
    mean = loss(pred, (labels, quality), weight, reduction_override='mean')
    torch.testing.assert_close(mean, expected[0].sum() / counts)


def test_forms_of_targets() -> None:
    pred, labels, quality = random_batch(seed=5)
    labels[0], quality[0] = 1, 0.0  # of quality 0, a negative
    loss = RankSortLossX(reduction='none')
    dense = scattered(labels, quality)
    expected = by_hand(pred, dense)
    assert_same(of_loss(loss, pred, (labels, quality)), expected, 1e-12)
    assert_same(of_loss(loss, pred, dense), expected, 1e-12)
    several = torch.where(torch.arange(60)[:, None] % 4 == 0, quality[:, None], 0).expand(60, 3)
    assert_same(of_loss(loss, pred, several), by_hand(pred, several), 1e-12)
    ones = scattered(labels, torch.ones_like(quality))
    assert_same(of_loss(loss, pred, labels), by_hand(pred, ones), 1e-12)
    lead = (labels.view(4, 15), quality.view(4, 15))
    nested = of_loss(loss, pred.view(4, 15, CLASSES), lead)
    assert_same((nested[0].view(60, -1), nested[1].view(60, -1)), expected, 1e-12)
    flat = of_loss(loss, pred[:, 0], dense[:, 0])
    assert flat[0].shape == (60,)
    expected = by_hand(pred[:, :1], dense[:, :1])
    assert_same((flat[0][:, None], flat[1][:, None]), expected, 1e-12)


@pytest.mark.parametrize('positives', [1, 60])
def test_one_positive_and_no_negatives(positives: int) -> None:
    pred, labels, quality = random_batch(positives=positives, classes=1)
    expected = by_hand(pred, scattered(labels, quality, 1))
    assert_same(of_loss(RankSortLossX(reduction='none'), pred, (labels, quality)), expected, 1e-12)
    if positives == 1:
        assert expected[0].max() > 0


@pytest.mark.parametrize('rows', [0, 12])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_no_positives(rows: int, reduction: str) -> None:
    pred, labels, _ = random_batch(rows, 0)
    value, gradient = of_loss(RankSortLossX(), pred, labels, reduction_override=reduction)
    assert value.isfinite().all() and (value == 0).all()
    assert gradient.shape == pred.shape and (gradient == 0).all()
    ignoring = RankSortLossX(ignore_index=1)
    value, gradient = of_loss(ignoring, pred, torch.ones_like(labels), reduction_override=reduction)
    assert (value == 0).all() and (gradient == 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_precision(dtype: torch.dtype) -> None:
    """The logits as they are given, in float32; the gradient comes back in their type."""
    pred, labels, quality = random_batch(dtype=dtype)
    value, gradient = of_loss(RankSortLossX(reduction='none'), pred, (labels, quality))
    expected = by_hand(pred, scattered(labels, quality))
    assert_same((value, gradient), expected, 2 * torch.finfo(dtype).eps)
    assert_same((value, value), (expected[0], expected[0]), 1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('size', [0.0, 1e-6, 6e4])
def test_extreme_logits(dtype: torch.dtype, size: float) -> None:
    pred, labels, quality = random_batch(dtype=torch.float32)
    pred = (pred.sign() * size).to(dtype)
    got = of_loss(RankSortLossX(reduction='none'), pred, (labels, quality))
    tol = 2 * torch.finfo(dtype).eps
    assert_same(got, by_hand(pred, scattered(labels, quality)), tol)


def test_a_huge_negative_leaves_the_other_sums_alone() -> None:
    pred, labels, quality = random_batch()
    row = int((labels == CLASSES).nonzero()[0])
    pred[row, 0], pred[row, 1] = 1e30, -1e30
    got = of_loss(RankSortLossX(reduction='none'), pred, (labels, quality))
    assert_same(got, by_hand(pred, scattered(labels, quality)), 1e-12)


@pytest.mark.parametrize('delta', [1e-8, 1e-12])
def test_ties_within_a_margin_finer_than_float32(delta: float) -> None:
    """A tie counts one half, however narrow the margin."""
    loss = RankSortLossX(delta=delta, reduction='sum')
    value, gradient = of_loss(loss, torch.tensor([[3.3], [3.3], [3.3]]), torch.tensor([0, 1, 1]))
    assert value == pytest.approx(2 / 3, rel=1e-3)  # (1/2 + 1/2) / (1/2 + 1/2 + 1/2)
    assert gradient.flatten().tolist() == pytest.approx([-2 / 3, 1 / 3, 1 / 3], rel=1e-3)
