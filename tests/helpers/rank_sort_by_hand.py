"""Rank & Sort loss as the paper defines it, with a loop over the positives.

Oksuz et al. 2021, https://arxiv.org/abs/2107.11669. The gradient is that of the identity update:
the error of a positive is what its own logit gains, and it is taken from the logits that are
ranked above it wrongly, each by its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmfocalx.losses import RankSortLossX

CLASSES = 3
Floats = Sequence[float]


def step(z: float, delta: float) -> float:
    return min(max(z / (2 * delta) + 0.5, 0.0), 1.0)


def with_scalars(
    f: Floats, q: Floats, b: Floats, delta: float, factors: Floats
) -> tuple[list[float], list[float], list[float]]:
    """Errors of the positives, and the gradients of positives and negatives.

    Args:
        f: logits of the positives.
        q: their qualities.
        b: logits of the negatives.
        delta: half the width of the margin.
        factors: what each error is multiplied with before all are summed.
    """
    errors, of_f, of_b = [], [0.0] * len(f), [0.0] * len(b)
    for i, factor in enumerate(factors):
        among = [step(other - f[i], delta) for other in f]
        above = [step(other - f[i], delta) for other in b]
        rank = sum(among) + sum(above)
        ranking = sum(above) / rank
        better = [j for j in range(len(f)) if q[j] >= q[i]]
        worse = [j for j in range(len(f)) if q[j] < q[i]]
        current = sum(h * (1 - own) for h, own in zip(among, q, strict=True)) / sum(among)
        target = sum(among[j] * (1 - q[j]) for j in better) / sum(among[j] for j in better)
        sorting = current - target
        errors.append(ranking + sorting)
        of_f[i] -= factor * (ranking + sorting)
        for k, h in enumerate(above):
            if h:
                of_b[k] += factor * ranking * h / sum(above)
        for j in worse:
            if among[j]:
                of_f[j] += factor * sorting * among[j] / sum(among[k] for k in worse)
    return errors, of_f, of_b


def with_tensors(f: Tensor, q: Tensor, b: Tensor, delta: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same for factors of 1, one positive at a time, as the authors' code has it."""

    def h(z: Tensor) -> Tensor:
        return (z / (2 * delta) + 0.5).clamp(0, 1)

    relevant = b >= f.min() - delta
    some = b[relevant]
    errors, of_f, of_some = torch.zeros_like(f), torch.zeros_like(f), torch.zeros_like(some)
    for i in range(len(f)):
        among, above = h(f - f[i]), h(some - f[i])
        false_positives = above.sum()
        ranking = false_positives / (among.sum() + false_positives)
        better, loss = q >= q[i], among * (1 - q)
        sorting = loss.sum() / among.sum() - loss[better].sum() / among[better].sum()
        errors[i] = ranking + sorting
        of_f[i] -= errors[i]
        if false_positives > 0:
            of_some += above * (ranking / false_positives)
        worse = torch.where(better, 0, among)
        if worse.sum() > 0:
            of_f += worse * (sorting / worse.sum())
    of_b = torch.zeros_like(b)
    of_b[relevant] = of_some
    return errors, of_f, of_b


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
    found = with_scalars(
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
