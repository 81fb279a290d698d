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
from typing import Any, NamedTuple

FLOAT32_EPS = 2.0**-23
Rows = list[list[float]]
State = dict[str, Any]


def sigmoid(x: float) -> float:
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def bce(x: float, y: float) -> float:
    return y * softplus(-x) + (1.0 - y) * softplus(x)


def per_class(value: Any, c: int) -> float:
    return float(value[c]) if isinstance(value, (list, tuple)) else float(value)


class Entry(NamedTuple):
    """One logit: its smoothed score ``y``, score before smoothing, class and frozen logit."""

    x: float
    y: float
    raw: float
    c: int
    x0: float

    @property
    def positive(self) -> bool:
        return self.raw > 0


def alpha_factor(e: Entry, kw: State) -> float:
    if kw['alpha'] is None:
        return 1.0
    alpha = per_class(kw['alpha'], e.c)
    return alpha * e.y + (1 - alpha) * (1 - e.y)


def one_minus_pt(e: Entry) -> float:
    return sigmoid(e.x) * (1 - e.y) + sigmoid(-e.x) * e.y


def focal(e: Entry, kw: State, state: State) -> float:
    modulation: float = one_minus_pt(e) ** per_class(kw['gamma'], e.c)
    return alpha_factor(e, kw) * modulation * bce(e.x, e.y)


def varifocal(e: Entry, kw: State, state: State) -> float:
    if e.positive:
        return (e.y if kw['iou_weighted'] else 1.0) * bce(e.x, e.y)
    return per_class(kw['alpha'], e.c) * sigmoid(e.x) ** kw['gamma'] * bce(e.x, e.y)


def quality_focal(e: Entry, kw: State, state: State) -> float:
    p, one_minus_p = sigmoid(e.x), sigmoid(-e.x)
    distance = one_minus_p - (1 - e.y) if e.y > 0.5 else e.y - p
    return abs(distance) ** kw['beta'] * bce(e.x, e.y)


def poly_focal(e: Entry, kw: State, state: State) -> float:
    polynomial: float = one_minus_pt(e) ** (kw['gamma'] + 1)
    return focal(e, kw, state) + kw['epsilon'] * alpha_factor(e, kw) * polynomial


def asymmetric(e: Entry, kw: State, state: State) -> float:
    p = sigmoid(e.x)
    m = max(p - kw['clip'], 0.0)
    log_one_minus_m = math.log1p(-m) if kw['clip'] > 0 else -softplus(e.x)
    positive = e.y * sigmoid(-e.x) ** kw['gamma_pos'] * softplus(-e.x)
    negative = (1 - e.y) * m ** kw['gamma_neg'] * -log_one_minus_m
    return positive + negative


def matchability_aware(e: Entry, kw: State, state: State) -> float:
    if e.positive:
        return bce(e.x, e.y ** kw['gamma'])
    alpha = 1.0 if kw['alpha'] is None else per_class(kw['alpha'], e.c)
    return alpha * sigmoid(e.x0) ** kw['gamma'] * bce(e.x, e.y)


def iou_aware_bce(e: Entry, kw: State, state: State) -> float:
    if e.positive:
        blend = sigmoid(e.x0) ** kw['alpha'] * e.y ** (1 - kw['alpha'])
        return bce(e.x, max(blend, 0.01))
    return sigmoid(e.x) ** kw['gamma'] * bce(e.x, e.y)


def equalized_focal(e: Entry, kw: State, state: State) -> float:
    positive, negative = state['pos_grad'][e.c], state['neg_grad'][e.c]
    g = 1.0 if negative == 0 else min(max(positive / negative, 0.0), 1.0)
    gamma_c = kw['gamma'] + kw['scale_factor'] * (1 - g)
    modulation: float = one_minus_pt(e) ** gamma_c
    return gamma_c / kw['gamma'] * alpha_factor(e, kw) * modulation * bce(e.x, e.y)


def position_supervised(e: Entry, kw: State, state: State) -> float:
    alpha = 0.5 if kw['alpha'] is None else per_class(kw['alpha'], e.c)
    balance = (alpha if e.positive else 1 - alpha) * (2 if kw['alpha'] is None else 1)
    y = e.y ** kw['exponent'] if e.positive else e.y
    return balance * quality_focal(e._replace(y=y), {'beta': kw['gamma']}, state)


def slide_weight(y: float, mu: float) -> float:
    if y <= mu - 0.1:
        return 1.0
    return math.exp(1 - mu) if y < mu else math.exp(1 - y)


def slide(e: Entry, kw: State, state: State) -> float:
    inner: Elementwise = state['inner']
    value = inner(e, state['inner_kw'], state)
    return value * slide_weight(e.raw, state['mu'])


Elementwise = Callable[[Entry, State, State], float]

COMMON: State = {
    'use_sigmoid': True,
    'reduction': 'mean',
    'loss_weight': 1.0,
    'activated': False,
    'ignore_index': None,
    'label_smoothing': 0.0,
    'ohem_ratio': None,
}


class Formula(NamedTuple):
    """A loss of the contract: its formula for one logit and the defaults of its own arguments."""

    entry: Elementwise
    defaults: State
    sum_classes: bool = False


FORMULAS: dict[str, Formula] = {
    'FocalLossX': Formula(focal, {'gamma': 2.0, 'alpha': 0.25}),
    'VarifocalLossX': Formula(varifocal, {'alpha': 0.75, 'gamma': 2.0, 'iou_weighted': True}),
    'QualityFocalLossX': Formula(quality_focal, {'beta': 2.0}, sum_classes=True),
    'SlideLossX': Formula(
        slide,
        {
            'loss': {'type': 'FocalLossX', 'gamma': 0.0, 'alpha': None},
            'auto_iou': 'mean',
            'momentum': 0.0,
        },
    ),
    'PolyFocalLossX': Formula(poly_focal, {'gamma': 2.0, 'alpha': 0.25, 'epsilon': 1.0}),
    'AsymmetricLossX': Formula(asymmetric, {'gamma_pos': 1.0, 'gamma_neg': 4.0, 'clip': 0.05}),
    'MALossX': Formula(matchability_aware, {'gamma': 1.5, 'alpha': None}),
    'IABCELossX': Formula(iou_aware_bce, {'alpha': 0.25, 'gamma': 2.0}),
    'PositionSupervisedLossX': Formula(
        position_supervised, {'gamma': 2.0, 'alpha': 0.25, 'exponent': 2.0}
    ),
    'EqualizedFocalLossX': Formula(
        equalized_focal, {'gamma': 2.0, 'alpha': 0.25, 'scale_factor': 8.0}
    ),
}


def softmax_focal_row(xs: list[float], ys: list[float], kw: State) -> list[float]:
    top = max(xs)
    powers = [math.exp(x - top) for x in xs]
    total = sum(powers)
    entries = []
    for c, (x, y) in enumerate(zip(xs, ys, strict=True)):
        others = sum(power for k, power in enumerate(powers) if k != c) / total
        alpha = 1.0 if kw['alpha'] is None else per_class(kw['alpha'], c)
        cross_entropy = math.log(total) + top - x
        entries.append(y * alpha * others ** per_class(kw['gamma'], c) * cross_entropy)
    return entries


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

    @cache
    def losses_of_row(i: int, row: tuple[float, ...]) -> list[float]:
        if not valid[i]:
            return [0.0] * (1 if sum_classes else channels)
        x = logits_of(row, kw)
        if kw['use_sigmoid']:
            entries = [
                entry(Entry(x[c], scores[i][c], raw[i][c], c, logits[i][c]), kw, state)
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


MASK_DEFAULTS: State = {
    'gamma': 2.0,
    'alpha': 0.25,
    'focal_weight': 1.0,
    'dice_weight': 1.0,
    'smooth': 1.0,
}
BOX_DEFAULTS: State = {'gamma': 0.5, 'eps': 1e-7}


def focal_dice(logits: list[float], mask: list[float], kw: State) -> float:
    entries = [Entry(x, y, y, 0, x) for x, y in zip(logits, mask, strict=True)]
    focal_mean = math.fsum(focal(e, kw, {}) for e in entries) / len(entries)
    overlap = math.fsum(sigmoid(e.x) * e.y for e in entries)
    total = math.fsum(sigmoid(e.x) for e in entries) + math.fsum(mask)
    dice = 1 - (2 * overlap + kw['smooth']) / (total + kw['smooth'])
    return float(kw['focal_weight'] * focal_mean + kw['dice_weight'] * dice)


def box_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a + area_b - width * height)


def focal_eiou(box: list[float], target: list[float], kw: State, frozen: list[float]) -> float:
    cw = max(box[2], target[2]) - min(box[0], target[0])
    ch = max(box[3], target[3]) - min(box[1], target[1])
    dx = (box[0] + box[2] - target[0] - target[2]) / 2
    dy = (box[1] + box[3] - target[1] - target[3]) / 2
    dw = (box[2] - box[0]) - (target[2] - target[0])
    dh = (box[3] - box[1]) - (target[3] - target[1])
    distance = (dx * dx + dy * dy) / (cw * cw + ch * ch)
    eiou = 1 - box_iou(box, target) + distance + dw * dw / (cw * cw) + dh * dh / (ch * ch)
    return float(box_iou(frozen, target) ** kw['gamma'] * eiou)


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
