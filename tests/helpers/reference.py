"""Every loss once more, as scalar loops over Python floats (float64), written from the contract.

Nothing here uses tensor operations. A prediction is a list of rows, a row is a list of floats; a
target is ``('labels', labels)``, ``('tuple', labels, quality)`` or ``('dense', rows)``. Factors
that carry no gradient are computed from ``frozen`` predictions, so a finite difference over the
others gives the gradient that the loss must have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from helpers.reference_formulas import (
    COMMON,
    FLOAT32_EPS,
    FORMULAS,
    Entry,
    Formula,
    Rows,
    State,
    slide,
    softmax_focal_row,
)


def expand_target(target: tuple[Any, ...], n: int, channels: int, ignore: int | None) -> Any:
    """Scores, one list per row, and whether the row counts."""
    kind = target[0]
    if kind == 'dense':
        return [list(map(float, row)) for row in target[1]], [True] * n
    labels = target[1]
    quality = target[2] if kind == 'tuple' else [1.0] * n
    scores = [
        [
            float(quality[i]) if labels[i] == c and labels[i] != ignore else 0.0
            for c in range(channels)
        ]
        for i in range(n)
    ]
    return scores, [ignore is None or label != ignore for label in labels]


def expand_weight(
    flat: list[float] | None, shape: tuple[int, ...], lead: tuple[int, ...], channels: int
) -> Rows:
    n = math.prod(lead)
    if flat is None:
        return [[1.0] * channels for _ in range(n)]
    per_row = shape == lead or shape == (*lead, 1) or shape == (n,)
    if per_row:
        return [[flat[i]] * channels for i in range(n)]
    if shape == (*lead, channels) or shape == (n * channels,):
        return [flat[i * channels : (i + 1) * channels] for i in range(n)]
    raise ValueError(f'not a weight shape of the contract: {shape}')


def reduce(
    losses: list[float],
    counted: list[bool],
    reduction: str,
    avg_factor: float | None,
    loss_weight: float,
) -> list[float] | float:
    if reduction == 'none':
        return [loss_weight * loss for loss in losses]
    total = math.fsum(losses)
    if reduction == 'sum':
        return loss_weight * total
    if avg_factor is not None:
        return loss_weight * total / (avg_factor + FLOAT32_EPS)
    count = sum(counted)
    return loss_weight * total / count if count else 0.0


def keep_largest(losses: list[float], counted: list[bool], ratio: float) -> list[bool]:
    candidates = sorted((i for i, c in enumerate(counted) if c), key=lambda i: -losses[i])
    kept = set(candidates[: math.ceil(ratio * len(candidates))])
    return [i in kept for i in range(len(losses))]


def classification_loss(
    formula: Formula,
    given: State,
    target: tuple[Any, ...],
    *,
    lead: tuple[int, ...],
    channels: int,
    frozen: Rows,
    weight: list[float] | None = None,
    weight_shape: tuple[int, ...] = (),
    avg_factor: float | None = None,
    reduction: str | None = None,
    state: State | None = None,
) -> Callable[[Rows], list[float] | float]:
    """The loss of predictions, with all else fixed.

    The contract's order: formula, class alpha, ignore, weight, class sum, OHEM, reduction,
    loss_weight. Each row is remembered, as a finite difference moves one row at a time.
    """
    kw = {**COMMON, **formula.defaults, **given}
    raw, valid = expand_target(target, math.prod(lead), channels, kw['ignore_index'])
    smoothing = kw['label_smoothing']
    floor = smoothing / (2 if kw['use_sigmoid'] else channels)
    scores = [[y * (1 - smoothing) + floor for y in row] for row in raw]
    weights = expand_weight(weight, weight_shape, lead, channels)
    logits = [logits_of(row, kw) for row in frozen]
    entry, state = formula.entry, dict(state or {})
    sum_classes = formula.sum_classes or not kw['use_sigmoid']
    if entry is slide:
        inner = dict(kw['loss'])
        inner_formula = FORMULAS[inner.pop('type')]
        sum_classes = inner_formula.sum_classes
        state.update(inner=inner_formula.entry, inner_kw={**inner_formula.defaults, **inner})
        state['mu'] = max(0.2, slide_threshold(kw, raw, valid, state.get('running', 0.2)))

    def label(i: int, c: int) -> bool | None:
        return None if target[0] == 'dense' else target[1][i] == c and valid[i]

    @cache
    def losses_of_row(i: int, row: tuple[float, ...]) -> list[float]:
        if not valid[i]:
            return [0.0] * (1 if sum_classes else channels)
        x = logits_of(row, kw)
        if kw['use_sigmoid']:
            entries = [
                entry(Entry(x[c], scores[i][c], raw[i][c], c, logits[i][c], label(i, c)), kw, state)
                for c in range(channels)
            ]
        else:
            entries = softmax_focal_row(x, scores[i], kw)
        weighted = [value * w for value, w in zip(entries, weights[i], strict=True)]
        return [math.fsum(weighted)] if sum_classes else weighted

    all_counted = [v for v in valid for _ in range(1 if sum_classes else channels)]

    def entries(pred: Rows) -> list[float]:
        return [value for i, row in enumerate(pred) for value in losses_of_row(i, tuple(row))]

    if kw['ohem_ratio'] is None:
        counted = all_counted
    else:
        counted = keep_largest(entries(frozen), all_counted, kw['ohem_ratio'])

    def loss(pred: Rows) -> list[float] | float:
        losses = entries(pred)
        if kw['ohem_ratio'] is not None:
            losses = [value if keep else 0.0 for value, keep in zip(losses, counted, strict=True)]
        return reduce(losses, counted, reduction or kw['reduction'], avg_factor, kw['loss_weight'])

    return loss


def logits_of(row: Sequence[float], kw: State) -> list[float]:
    return [logit_of_clipped(p) for p in row] if kw['activated'] else list(row)


def logit_of_clipped(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p) - math.log1p(-p)


def slide_threshold(kw: State, raw: Rows, valid: list[bool], running: float) -> float:
    if kw['auto_iou'] != 'mean':
        return float(kw['auto_iou'])
    qualities = [y for row, v in zip(raw, valid, strict=True) if v for y in row if y > 0]
    if not qualities:
        return running
    mean = math.fsum(qualities) / len(qualities)
    return float(kw['momentum'] * running + (1 - kw['momentum']) * mean)


def per_sample_loss(
    losses: list[float], given: State, weight: list[float] | None, reduction: str, avg: float | None
) -> list[float] | float:
    """Weight, reduction and loss_weight of the mask and box losses."""
    weighted = [loss * (weight[i] if weight else 1.0) for i, loss in enumerate(losses)]
    return reduce(weighted, [True] * len(weighted), reduction, avg, given.get('loss_weight', 1.0))


def gradient(f: Callable[[Rows], float], at: Rows, step: float = 1e-3) -> Rows:
    """Five-point central difference of ``f`` by every element of ``at``."""

    def moved(i: int, c: int, by: float) -> float:
        rows = [list(row) for row in at]
        rows[i][c] += by
        return f(rows)

    return [
        [
            (
                8 * (moved(i, c, step) - moved(i, c, -step))
                - (moved(i, c, 2 * step) - moved(i, c, -2 * step))
            )
            / (12 * step)
            for c in range(len(row))
        ]
        for i, row in enumerate(at)
    ]
