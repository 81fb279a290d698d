"""Correlation loss: what it adds to its inner loss, against scalar loops and finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from helpers.checks import assert_refused
from mmfocalx.losses import CorrelationLossX, FocalLossX, SlideLossX

CLASSES = 3
KINDS = ('concordance', 'pearson')


def correlation(kind: str, p: list[float], q: list[float], weights: list[float]) -> float:
    """Of scores and qualities, with weighted means."""
    total = math.fsum(weights)

    def mean(values: list[float]) -> float:
        return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total

    mean_p, mean_q = mean(p), mean(q)
    p, q = [v - mean_p for v in p], [v - mean_q for v in q]
    covariance = mean([a * b for a, b in zip(p, q, strict=True)])
    var_p, var_q = mean([a * a for a in p]), mean([b * b for b in q])
    if kind == 'pearson':
        return covariance / math.sqrt(var_p * var_q)
    return 2 * covariance / (var_p + var_q + (mean_p - mean_q) ** 2)


def added(kind: str, x: Tensor, scores: Tensor, weights: Tensor | None = None) -> float:
    """1 minus the correlation over the entries of a score above 0."""
    weights = torch.ones_like(scores) if weights is None else weights.expand_as(scores)
    triples = [
        (1 / (1 + math.exp(-logit)), score, weight)
        for logit, score, weight in zip(
            *(part.double().flatten().tolist() for part in (x, scores, weights)), strict=True
        )
        if score > 0 and weight > 0
    ]
    p, q, w = map(list, zip(*triples, strict=True))
    return 1 - correlation(kind, p, q, w)


def random_batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    pred = torch.randn(20, CLASSES, generator=g, dtype=torch.float64)
    labels = torch.randint(0, CLASSES + 1, (20,), generator=g)
    quality = torch.rand(20, generator=g, dtype=torch.float64) * 0.98 + 0.01
    return pred.to(dtype), labels, quality.to(dtype)


def scattered(labels: Tensor, quality: Tensor) -> Tensor:
    return torch.where(labels[:, None] == torch.arange(CLASSES), quality[:, None], 0)


def of_loss(loss: Any, pred: Tensor, *call: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    pred = pred.detach().clone().requires_grad_()
    value = loss(pred, *call, **kwargs)
    value.backward()
    assert value.shape == () and pred.grad is not None and pred.grad.dtype == pred.dtype
    return value.detach(), pred.grad


def gradient_of_added(kind: str, x: Tensor, scores: Tensor, **weights: Tensor) -> Tensor:
    found = torch.zeros_like(x)
    for place in torch.ones_like(x).nonzero().tolist():
        ends = []
        for change in (1e-5, -1e-5):
            moved = x.clone()
            moved[tuple(place)] += change
            ends.append(added(kind, moved, scores, **weights))
        found[tuple(place)] = (ends[0] - ends[1]) / 2e-5
    return found


@pytest.mark.parametrize('form', ['tuple', 'dense'])
@pytest.mark.parametrize('kind', KINDS)
def test_value_and_gradient(kind: str, form: str) -> None:
    pred, labels, quality = random_batch()
    scores = scattered(labels, quality)
    if form == 'dense':
        scores[:5] = torch.rand(5, CLASSES, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    target = (labels, quality) if form == 'tuple' else scores
    for call in ({}, {'avg_factor': 3.0}, {'reduction_override': 'sum'}):
        loss = CorrelationLossX(kind=kind, correlation_weight=0.7, loss_weight=2.0)
        inner = of_loss(FocalLossX(gamma=0.0, alpha=None, loss_weight=2.0), pred, target, **call)
        value, gradient = of_loss(loss, pred, target, **call)
        assert float(value - inner[0]) == pytest.approx(1.4 * added(kind, pred, scores), rel=1e-9)
        expected = 1.4 * gradient_of_added(kind, pred, scores)
        torch.testing.assert_close(gradient - inner[1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('shape', [(20,), (20, 1), (20, CLASSES)])
@pytest.mark.parametrize('kind', KINDS)
def test_weights_and_ignored_rows(kind: str, shape: tuple[int, ...]) -> None:
    pred, labels, quality = random_batch()
    labels[::6] = 255
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(2)).double()
    weight.view(-1)[::5] = 0.0
    loss = CorrelationLossX(kind=kind, ignore_index=255)
    inner = FocalLossX(gamma=0.0, alpha=None, ignore_index=255)
    value, gradient = of_loss(loss, pred, (labels, quality), weight)
    plain, plain_gradient = of_loss(inner, pred, (labels, quality), weight)
    spread = dict(weights=weight.reshape(20, -1))
    scores = scattered(labels, quality)
    expected = 0.2 * added(kind, pred, scores, **spread)
    assert float(value - plain) == pytest.approx(expected, rel=1e-9)
    expected = 0.2 * gradient_of_added(kind, pred, scores, **spread)
    torch.testing.assert_close(gradient - plain_gradient, expected, rtol=1e-6, atol=1e-9)
    assert (gradient[::6] == 0).all()
    pred[::6] = float('nan')
    assert torch.equal(of_loss(loss, pred, (labels, quality), weight)[1], gradient)


@pytest.mark.parametrize('fused', [False, 'auto'])
@pytest.mark.parametrize(
    'inner',
    [
        {'type': 'VarifocalLossX'},
        {'type': 'QualityFocalLossX'},
        {'type': 'SlideLossX', 'loss': {'type': 'VarifocalLossX'}},
        {'type': 'EqualizedFocalLossX', 'num_classes': CLASSES},
    ],
    ids=lambda config: config['type'],
)
@pytest.mark.parametrize('ohem_ratio', [None, 0.3])
def test_inner_losses(inner: dict[str, Any], ohem_ratio: float | None, fused: Any) -> None:
    pred, labels, quality = random_batch()
    common = dict(ohem_ratio=ohem_ratio, label_smoothing=0.1, fused=fused)
    loss = CorrelationLossX(loss=inner, **common)
    plain = MODELS.build({**inner, **common})
    value, _ = of_loss(loss, pred, (labels, quality))
    expected, _ = of_loss(plain, pred, (labels, quality))
    own = 0.2 * added('concordance', pred, scattered(labels, quality))
    assert float(value - expected) == pytest.approx(own, rel=1e-6)
    assert dict(loss.state_dict()).keys() == {f'loss.{name}' for name in plain.state_dict()}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('positives', [0, 1, 5])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_degenerate_batches(kind: str, positives: int, dtype: torch.dtype) -> None:
    """No or one positive; equal qualities, scores, or both; saturated scores."""
    labels = torch.full((8,), CLASSES)
    labels[:positives] = 1
    loss, inner = CorrelationLossX(kind=kind), FocalLossX(gamma=0.0, alpha=None)
    spread = torch.linspace(0.1, 0.9, 8).to(dtype)
    for quality in (torch.full((8,), 0.5), torch.ones(8), torch.full((8,), 0.3), spread):
        for x in (0.0, 0.3, 30.0, -30.0, spread[:, None]):
            pred = torch.ones(8, CLASSES, dtype=dtype) * x
            value, gradient = of_loss(loss, pred, (labels, quality.to(dtype)))
            assert value.isfinite() and gradient.isfinite().all()
            plain, plain_gradient = of_loss(inner, pred, (labels, quality.to(dtype)))
            extra = float(value - plain)
            assert -1e-6 <= extra <= 0.4
            if positives == 0:
                assert extra == 0 and torch.equal(gradient, plain_gradient)
            elif positives == 1 or (quality == quality[0]).all():
                scores = pred[:positives, 1].double().sigmoid()
                difference = (scores - quality[:positives].double()).abs().max()
                same = kind == 'concordance' and difference < 1e-7
                if same and dtype == torch.float64 and difference:
                    continue  # 1 - 1e-13 is no 1 in float64: either answer is right
                assert extra == pytest.approx(0.0 if same else 0.2, abs=1e-5)
                step = (gradient - plain_gradient).abs().max()
                assert step <= 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize('kind', KINDS)
def test_empty(kind: str) -> None:
    value, gradient = of_loss(
        CorrelationLossX(kind=kind), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    )
    assert value == 0 and gradient.shape == (0, 3)


def test_agreement_costs_nothing() -> None:
    """Scores that equal the qualities; Pearson also asks for no scale and no offset."""
    quality = torch.linspace(0.2, 0.8, 7, dtype=torch.float64)
    labels = torch.zeros(7, dtype=torch.long)
    inner = FocalLossX(gamma=0.0, alpha=None)
    for kind, p, expected in (
        ('concordance', quality, 0.0),
        ('pearson', quality / 2 + 0.1, 0.0),
        ('pearson', 1 - quality, 2.0),
    ):
        pred = p.logit()[:, None]
        loss = CorrelationLossX(kind=kind, correlation_weight=1.0)
        extra = loss(pred, (labels, quality)) - inner(pred, (labels, quality))
        assert float(extra) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('kind', KINDS)
def test_probabilities(kind: str) -> None:
    pred, labels, quality = random_batch()
    p = pred.sigmoid()
    value, gradient = of_loss(CorrelationLossX(kind=kind, activated=True), p, (labels, quality))
    expected, by_logits = of_loss(CorrelationLossX(kind=kind), pred, (labels, quality))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient * p * (1 - p), by_logits)
    saturated = (p > 0.5).double()
    value, gradient = of_loss(
        CorrelationLossX(kind=kind, activated=True), saturated, (labels, quality)
    )
    assert value.isfinite() and gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_precision(dtype: torch.dtype) -> None:
    pred, labels, quality = random_batch(dtype)
    got = of_loss(CorrelationLossX(), pred, (labels, quality))
    expected = of_loss(CorrelationLossX(), pred.double(), (labels, quality.double()))
    assert got[0].dtype == torch.float32
    torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-5, atol=1e-6)
    tol = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(got[1].double(), expected[1], rtol=tol, atol=tol)


@pytest.mark.parametrize('form', ['labels', 'tuple', 'dense'])
@pytest.mark.parametrize('kind', KINDS)
def test_reads_no_value_off_the_cpu(kind: str, form: str) -> None:
    pred, labels, quality = (part.to('meta') for part in random_batch(torch.float32))
    target = {'labels': labels, 'tuple': (labels, quality), 'dense': pred.detach()}[form]
    pred.requires_grad_()
    loss = CorrelationLossX(kind=kind, ohem_ratio=0.5)
    loss(pred, target, torch.ones(20, device='meta')).backward()
    CorrelationLossX(kind=kind)(pred, target, avg_factor=torch.ones(1, device='meta')).backward()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({'reduction': 'none'}, 'none'),
    ({'kind': 'spearman'}, 'spearman'),
    ({'correlation_weight': -0.1}, '-0.1'),
    ({'correlation_weight': float('nan')}, 'nan'),
    ({'loss': 'FocalLossX'}, 'FocalLossX'),
    ({'loss': {'type': 'FocalLossX', 'use_sigmoid': False}}, 'use_sigmoid|softmax'),
    ({'loss': {'type': 'FocalLossX', 'loss_weight': 2.0}}, 'loss_weight'),
    ({'loss': {'type': 'CorrelationLossX'}}, 'CorrelationLossX'),
    ({'loss': {'type': 'RankSortLossX'}}, 'RankSortLossX'),
]


@pytest.mark.parametrize(('kwargs', 'given'), REFUSED, ids=str)
def test_refused_settings(kwargs: dict[str, Any], given: str) -> None:
    (argument,) = kwargs
    assert_refused(lambda: CorrelationLossX(**kwargs), argument, given)


def test_there_is_no_unreduced_loss() -> None:
    pred, labels, _ = random_batch()
    loss = CorrelationLossX()
    assert_refused(
        lambda: loss(pred, labels, reduction_override='none'), 'reduction_override', 'none'
    )


@pytest.mark.parametrize('inner', ['RankSortLossX', 'CorrelationLossX'])
def test_slide_refuses_a_loss_of_the_whole_batch(inner: str) -> None:
    assert_refused(lambda: SlideLossX(loss={'type': inner}), 'loss', inner)
