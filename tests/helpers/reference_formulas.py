"""The formulas of every loss once more, over Python floats (float64), from the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    label: bool | None = None  # whether a label names it; None for dense targets

    @property
    def matched(self) -> bool:
        return self.positive if self.label is None else self.label

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
    focused = e.x0 if kw['detach'] else e.x
    return per_class(kw['alpha'], e.c) * sigmoid(focused) ** kw['gamma'] * bce(e.x, e.y)


def quality_focal(e: Entry, kw: State, state: State) -> float:
    p, one_minus_p = sigmoid(e.x), sigmoid(-e.x)
    distance = one_minus_p - (1 - e.y) if e.y > 0.5 else e.y - p
    return abs(distance) ** kw['beta'] * bce(e.x, e.y)


def poly_focal(e: Entry, kw: State, state: State) -> float:
    polynomial: float = one_minus_pt(e) ** (kw['gamma'] + 1)
    return focal(e, kw, state) + kw['epsilon'] * alpha_factor(e, kw) * polynomial


def asymmetric(e: Entry, kw: State, state: State) -> float:
    focused = e.x0 if kw['detach'] else e.x
    m, focused_m = (max(sigmoid(x) - kw['clip'], 0.0) for x in (e.x, focused))
    log_one_minus_m = math.log1p(-m) if kw['clip'] > 0 else -softplus(e.x)
    positive = e.y * sigmoid(-focused) ** kw['gamma_pos'] * softplus(-e.x)
    negative = (1 - e.y) * focused_m ** kw['gamma_neg'] * -log_one_minus_m
    return positive + negative


def matchability_aware(e: Entry, kw: State, state: State) -> float:
    if e.matched:
        return bce(e.x, e.y ** kw['gamma'])
    alpha = 1.0 if kw['alpha'] is None else per_class(kw['alpha'], e.c)
    return alpha * sigmoid(e.x0) ** kw['gamma'] * bce(e.x, e.y)


def iou_aware_bce(e: Entry, kw: State, state: State) -> float:
    if e.matched:
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
    balance = (alpha if e.matched else 1 - alpha) * (2 if kw['alpha'] is None else 1)
    y = e.y ** kw['exponent'] if e.matched else e.y
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
    'VarifocalLossX': Formula(
        varifocal, {'alpha': 0.75, 'gamma': 2.0, 'iou_weighted': True, 'detach': False}
    ),
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
    'AsymmetricLossX': Formula(
        asymmetric, {'gamma_pos': 1.0, 'gamma_neg': 4.0, 'clip': 0.05, 'detach': False}
    ),
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
