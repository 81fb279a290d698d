"""Rank & Sort loss against the loop over the positives that defines it."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from helpers import rank_sort_by_hand
from helpers.checks import assert_refused
from mmfocalx.losses import RankSortLossX
from mmfocalx.losses.ramps import ALL_OF_16_BITS, Ramps

CLASSES = 3
DELTAS = (0.5, 0.05, 1.7, 20.0)


def random_batch(
    rows: int = 60,
    positives: int = 9,
    *,
    seed: int = 0,
    tied: bool = False,
    dtype: torch.dtype = torch.float64,
    classes: int = CLASSES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and qualities; ``tied`` in steps of 1/4 and 1/5."""
    g = torch.Generator().manual_seed(seed)
    pred = torch.randn(rows, classes, generator=g, dtype=torch.float64) * 2
    labels = torch.full((rows,), classes)
    own = torch.randperm(rows, generator=g)[:positives]
    labels[own] = torch.randint(0, classes, (positives,), generator=g)
    quality = torch.rand(rows, generator=g, dtype=torch.float64) * 0.98 + 0.01
    if tied:
        pred, quality = (pred * 4).round() / 4, (quality * 5).ceil() / 5
    return pred.to(dtype), labels, quality


def scattered(labels: Tensor, quality: Tensor, classes: int = CLASSES) -> Tensor:
    scores = torch.zeros(len(labels), classes, dtype=quality.dtype)
    for row, label in enumerate(labels.tolist()):
        if 0 <= label < classes:
            scores[row, label] = quality[row]
    return scores


def by_hand(
    pred: Tensor,
    scores: Tensor,
    delta: float = 0.5,
    counted: Tensor | None = None,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(N, C) errors and the gradient of their sum, each times its factor."""
    counted = torch.ones_like(scores, dtype=torch.bool) if counted is None else counted
    factors = torch.ones_like(scores) if factors is None else factors
    positive, negative = counted & (scores > 0), counted & (scores == 0)
    x = pred.detach().double()
    found = rank_sort_by_hand.with_scalars(
        x[positive].tolist(),
        scores[positive].double().tolist(),
        x[negative].tolist(),
        delta,
        factors[positive].tolist(),
    )
    errors, of_positives, of_negatives = (torch.tensor(part, dtype=x.dtype) for part in found)
    value, gradient = torch.zeros(2, *x.shape, dtype=x.dtype)
    value[positive], gradient[positive], gradient[negative] = errors, of_positives, of_negatives
    return value, gradient


def of_loss(
    loss: RankSortLossX,
    pred: Tensor,
    target: Any,
    weight: Tensor | None = None,
    factors: Tensor | float = 1.0,
    **call: Any,
) -> tuple[Tensor, Tensor]:
    pred = pred.detach().clone().requires_grad_()
    value = loss(pred, target, weight, **call)
    (value * factors).sum().backward()
    assert pred.grad is not None and pred.grad.dtype == pred.dtype
    return value.detach(), pred.grad


def assert_same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tol: float) -> None:
    for one, other in zip(got, expected, strict=True):
        difference = (one.double() - other).abs().max()
        assert difference <= tol * max(1.0, other.abs().max()), difference


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
    parts = rank_sort_by_hand.with_tensors(x[positive], scores[positive], x[~positive], delta)
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
    parts = rank_sort_by_hand.with_tensors(pred[positive], scores[positive], pred[~positive], 0.3)
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


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_a_logit_that_is_no_number_raises_nothing(bad: float) -> None:
    for rows in (60, 30_000):
        for place in (0, 1):
            pred, labels, quality = random_batch(rows, 20, dtype=torch.float32)
            pred[(labels < CLASSES) if place else (labels == CLASSES)] = bad
            of_loss(RankSortLossX(), pred, (labels, quality))


def test_probabilities() -> None:
    pred, labels, quality = random_batch()
    p = pred.sigmoid()
    value, gradient = of_loss(RankSortLossX(activated=True), p, (labels, quality))
    expected = of_loss(RankSortLossX(), pred, (labels, quality))
    assert_same((value, gradient * p * (1 - p)), expected, 1e-10)


def test_a_second_backward_gives_the_same() -> None:
    pred, labels, quality = random_batch()
    pred.requires_grad_()
    value = RankSortLossX()(pred, (labels, quality))
    (first,) = torch.autograd.grad(value, pred, retain_graph=True)
    first = first.clone()
    (second,) = torch.autograd.grad(3 * value, pred)
    torch.testing.assert_close(second, 3 * first)


def test_autocast_changes_nothing() -> None:
    pred, labels, quality = random_batch(dtype=torch.float32)
    expected = of_loss(RankSortLossX(), pred, (labels, quality))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = of_loss(RankSortLossX(), pred, (labels, quality))
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({'delta': 0.0}, '0'),
    ({'delta': -0.5}, '-0.5'),
    ({'delta': float('nan')}, 'nan'),
    ({'delta': 'wide'}, 'wide'),
    ({'alpha': 0.25}, '0.25'),
    ({'label_smoothing': 0.1}, '0.1'),
    ({'ohem_ratio': 0.5}, '0.5'),
    ({'use_sigmoid': False}, 'False'),
]


@pytest.mark.parametrize(('kwargs', 'given'), REFUSED, ids=str)
def test_refused_settings(kwargs: dict[str, Any], given: str) -> None:
    (argument,) = kwargs
    assert_refused(lambda: RankSortLossX(**kwargs), argument, given)
    RankSortLossX(label_smoothing=0.0, ohem_ratio=None)


@pytest.mark.parametrize('given', [[1.0, 2.0], [0.0, 0.5, 1.0], [1.0, float('nan')]])
def test_weights_that_are_no_mask(given: list[float]) -> None:
    pred, labels, _ = random_batch()
    weight = torch.tensor(given).repeat(60)[:60]
    assert_refused(lambda: RankSortLossX()(pred, labels, weight), 'weight', 'mask')


def test_weights_are_read_on_the_cpu_only() -> None:
    pred, labels, _ = random_batch(dtype=torch.float32)
    weight = torch.arange(60.0)
    with pytest.raises(NotImplementedError, match='nonzero'):  # the number of positives
        RankSortLossX()(pred.to('meta'), labels.to('meta'), weight.to('meta'))


@pytest.mark.parametrize('form', ['labels', 'tuple', 'dense'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_host_waits_for_the_number_of_positives_only(form: str, dtype: torch.dtype) -> None:
    """On the device meta, which has no values; there, every candidate is a positive."""
    pred, labels, quality = (part.to('meta') for part in random_batch(dtype=dtype))
    target = {'labels': labels, 'tuple': (labels, quality), 'dense': pred.detach()}[form]
    pred.requires_grad_()
    loss = RankSortLossX(ignore_index=None if form == 'dense' else 255)
    config: Any = torch.fx.experimental._config
    with config.patch(meta_nonzero_assume_all_nonzero=True):
        for call in ({}, {'avg_factor': torch.ones(1, device='meta')}):
            loss(pred, target, torch.ones(60, device='meta'), **call).backward()
    assert pred.grad is not None and pred.grad.shape == pred.shape


def seconds(function: Callable[[], object]) -> float:
    """Of this thread's time, the best of two."""
    taken = []
    for _ in range(2):
        start = time.thread_time()
        function()
        taken.append(time.thread_time() - start)
    return min(taken)


def test_is_faster_than_a_loop_over_the_positives() -> None:
    pred, labels, quality = random_batch(30_000, 200, dtype=torch.float32)
    positive = scattered(labels, quality) > 0
    loss, q = RankSortLossX(), quality[labels < CLASSES].float()
    loop = seconds(
        lambda: rank_sort_by_hand.with_tensors(pred[positive], q, pred[~positive], loss.delta)
    )
    assert seconds(lambda: of_loss(loss, pred, (labels, quality))) < loop / 4


@pytest.mark.parametrize('positives', [50, 2000])
def test_memory_does_not_grow_with_the_positives(positives: int) -> None:
    """At most three times the logits, of which the gradient is one."""
    pred, labels, quality = random_batch(60_000, positives, dtype=torch.float32, classes=80)
    pred.requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        RankSortLossX()(pred, (labels, quality)).backward()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == '[memory]']
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert max(accumulate(changes)) <= 3 * pred.numel() * pred.element_size()


# -- sums of ramps --------------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_every_way_of_looking_up_a_bin_is_exact(dtype: torch.dtype) -> None:
    """Breaks between and at the numbers; some of them in one cell of the table, or in one point."""
    g = torch.Generator().manual_seed(0)
    starts = torch.randn(40, generator=g, dtype=torch.float64)
    starts[::4] = starts[1::4] + 1e-9
    starts[2::8] = (starts[2::8] * 4).round() / 4
    x = torch.randn(40_000, 2, generator=g).to(dtype)
    x[:40, 0], x[-1] = starts.to(dtype), -1e4
    x[40:80, 1] = (starts + 0.25).to(dtype)
    ramps = Ramps(starts, 0.25, torch.float32)
    ends = torch.cat([starts, starts + 0.25])
    expected = (x.double()[..., None] >= ends).sum(-1, dtype=torch.int32)
    assert torch.equal(ramps.bins(x), expected)
    assert torch.equal(ramps.bins(x[:30]), expected[:30])
