"""Rank & Sort loss: what it refuses, when the host waits, its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from helpers.checks import assert_refused
from helpers.rank_sort_by_hand import (
    CLASSES,
    assert_same,
    of_loss,
    random_batch,
    scattered,
    with_tensors,
)
from mmfocalx.losses import RankSortLossX
from mmfocalx.losses.ramps import Ramps


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
    loop = seconds(lambda: with_tensors(pred[positive], q, pred[~positive], loss.delta))
    assert seconds(lambda: of_loss(loss, pred, (labels, quality))) < loop / 4


@pytest.mark.parametrize(('dtype', 'most'), [(torch.float32, 2.0), (torch.bfloat16, 2.8)])
@pytest.mark.parametrize('positives', [50, 2000])
def test_memory_does_not_grow_with_the_positives(
    positives: int, dtype: torch.dtype, most: float
) -> None:
    """Multiples of the logits, of which the gradient is one."""
    pred, labels, quality = random_batch(60_000, positives, dtype=dtype, classes=80)
    pred.requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        RankSortLossX()(pred, (labels, quality)).backward()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == '[memory]']
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert max(accumulate(changes)) <= most * pred.numel() * pred.element_size()


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
    expected = (x.double()[..., None] >= ends).sum(-1, dtype=torch.int16)
    assert torch.equal(ramps.bins(x), expected)
    assert torch.equal(ramps.bins(x[:30]), expected[:30])


@pytest.mark.parametrize('ramps', [16_383, 16_384])
def test_bins_that_are_few_or_many_for_16_bits(ramps: int) -> None:
    """The last number is above both ends of all ramps, so in the bin of the largest index."""
    starts = torch.arange(ramps, dtype=torch.float64)
    x = torch.tensor([[-1.0], [0.5], [1.0], [ramps / 2], [2.0 * ramps]])
    made = Ramps(starts, 0.25, torch.float32)
    bins = made.bins(x)
    ends = torch.cat([starts, starts + 0.25])
    assert torch.equal(bins.long(), (x.double() >= ends).sum(1, keepdim=True))
    h = ((x.double() - starts) / 0.25).clamp(0, 1)
    assert torch.allclose(made.over_numbers(x, bins), h.sum(0), rtol=1e-12, atol=1e-12)
    weights = starts.sin()
    total = torch.empty(x.shape, dtype=torch.float64)
    made.weighted_sum(weights, x, bins, out=total)
    assert torch.allclose(total[:, 0], h @ weights, rtol=1e-9, atol=1e-9)
