"""Values of every loss that a person can check with a pocket calculator.

Two logits are easy. At x = 0, p = 1/2, and BCE(x, y) = ln 2 = 0.693147 for every y.
At x = ln 3, p = 3/4, so that

    BCE(ln 3, 1)   = -ln(3/4) = 0.287682
    BCE(ln 3, 0)   = -ln(1/4) = 1.386294
    BCE(ln 3, 1/2) = (0.287682 + 1.386294) / 2 = 0.836988
    BCE(ln 3, 1/4) = 0.287682 / 4 + 1.386294 * 3/4 = 1.111641

The comment above a row is the formula with its numbers. A mark before a comment says what the
target is: + a positive of score 1, q one of a lower quality, - a negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

from mmfocalx.losses.catalogue import losses

LN2, LN3, LN15, LN99 = (math.log(n) for n in (2, 3, 15, 99))


@dataclass(frozen=True)
class Row:
    """A call whose sum over all entries is known.

    Attributes:
        loss: type of the loss.
        pred: a logit, which stands for one prediction of one class; or a nested list.
        target: its score, or a nested list.
        expected: six digits of the loss.
        settings: arguments of the constructor.
        state: values of its buffers.
    """

    loss: str
    pred: Any
    target: Any
    expected: float
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, list[float]] = field(default_factory=dict)


BCE = {'gamma': 0.0, 'alpha': None}
EFL = {'num_classes': 1}
SLIDE = {'auto_iou': 0.5}
ROWS = [
    # + 0.25 * (1/2)^2 * 0.693147
    Row('FocalLossX', 0, 1, 0.0433217),
    # + 0.25 * (1 - 3/4)^2 * 0.287682
    Row('FocalLossX', LN3, 1, 0.00449503),
    # - (1 - 0.25) * (3/4)^2 * 1.386294
    Row('FocalLossX', LN3, 0, 0.584843),
    # q Binary cross-entropy alone: BCE(ln 3, 1/2)
    Row('FocalLossX', LN3, 0.5, 0.836988, BCE),
    # q Of score 1/2, 1 - p_t = 3/4 * 1/2 + 1/4 * 1/2 = 1/2: (1/2)^1 * 0.836988
    Row('FocalLossX', LN3, 0.5, 0.418494, {'gamma': 1.0, 'alpha': None}),
    #
    # What all losses share, shown on binary cross-entropy:
    # + Smoothed by 0.2, the score is 1 * 0.8 + 0.1 = 0.9: 0.9 * 0.287682 + 0.1 * 1.386294
    Row('FocalLossX', LN3, 1, 0.397543, {**BCE, 'label_smoothing': 0.2}),
    # - Of the losses 0.693147 and 1.386294, the harder half is the latter.
    Row('FocalLossX', [[0], [LN3]], [[0.0], [0.0]], 1.386294, {**BCE, 'ohem_ratio': 0.5}),
    # + The prediction is the probability 3/4: 10 * 0.287682
    Row('FocalLossX', 0.75, 1, 2.87682, {**BCE, 'activated': True, 'loss_weight': 10.0}),
    #
    # Softmax of (ln 3, 0) is (3/4, 1/4).
    # + Label 0: 0.25 * (1 - 3/4)^2 * 0.287682
    Row('FocalLossX', [[LN3, 0]], [0], 0.00449503, {'use_sigmoid': False}),
    # + Label 1: 0.25 * (1 - 1/4)^2 * 1.386294
    Row('FocalLossX', [[LN3, 0]], [1], 0.194948, {'use_sigmoid': False}),
    # + Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4). Label 0: 0.25 * (1/2)^2 * 0.693147
    Row('FocalLossX', [[LN2, 0, 0]], [0], 0.0433217, {'use_sigmoid': False}),
    #
    # + 1 * 0.693147
    Row('VarifocalLossX', 0, 1, 0.693147),
    # q 1/2 * 0.836988
    Row('VarifocalLossX', LN3, 0.5, 0.418494),
    # q Without its leading q: 0.836988
    Row('VarifocalLossX', LN3, 0.5, 0.836988, {'iou_weighted': False}),
    # - 0.75 * (1/2)^2 * 0.693147
    Row('VarifocalLossX', 0, 0, 0.129965),
    # - 0.5 * (3/4)^1 * 1.386294
    Row('VarifocalLossX', LN3, 0, 0.519860, {'alpha': 0.5, 'gamma': 1.0}),
    # - The value of a detached factor is the same.
    Row('VarifocalLossX', LN3, 0, 0.519860, {'alpha': 0.5, 'gamma': 1.0, 'detach': True}),
    #
    # + (1 - 1/2)^2 * 0.693147
    Row('QualityFocalLossX', 0, 1, 0.173287),
    # q (3/4 - 1/4)^2 * 1.111641
    Row('QualityFocalLossX', LN3, 0.25, 0.277910),
    # q (3/4 - 1/4)^1 * 1.111641
    Row('QualityFocalLossX', LN3, 0.25, 0.555821, {'beta': 1.0}),
    # - Two classes, summed: (1/2)^2 * 0.693147 + (3/4)^2 * 1.386294 = 0.173287 + 0.779790
    Row('QualityFocalLossX', [[0, LN3]], [[0.0, 0.0]], 0.953077),
    #
    # Weights of binary cross-entropy around the mean quality 0.5:
    # q 0.3 is not above 0.5 - 0.1: 1 * 0.693147
    Row('SlideLossX', 0, 0.3, 0.693147, SLIDE),
    # q 0.45 is between 0.4 and 0.5: e^(1 - 0.5) = 1.648721, times 0.693147
    Row('SlideLossX', 0, 0.45, 1.142806, SLIDE),
    # q 0.75 is above 0.5: e^(1 - 0.75) = 1.284025, times 0.693147
    Row('SlideLossX', 0, 0.75, 0.890018, SLIDE),
    # q The same weight of varifocal loss: 1.284025 * 0.75 * 0.693147
    Row('SlideLossX', 0, 0.75, 0.667514, {**SLIDE, 'loss': {'type': 'VarifocalLossX'}}),
    # q The mean quality is at least 0.2, and 0.15 is between 0.1 and 0.2: e^0.8 = 2.225541
    Row('SlideLossX', 0, 0.15, 1.542627, {'auto_iou': 0.05}),
    # q The mean of 0.4 and 0.8 is 0.6: weights 1 and e^(1 - 0.8) = 1.221403, 2.221403 * 0.693147
    Row('SlideLossX', [[0], [0]], [[0.4], [0.8]], 1.539759),
    #
    # + 0.25 * (1/2)^2 * 0.693147 + 1 * 0.25 * (1/2)^3 = 0.0433217 + 0.03125
    Row('PolyFocalLossX', 0, 1, 0.0745717),
    # - 0.75 * (3/4)^2 * 1.386294 + 1 * 0.75 * (3/4)^3 = 0.584843 + 0.316406
    Row('PolyFocalLossX', LN3, 0, 0.901249),
    # + (1/2)^2 * 0.693147 - 1 * (1/2)^3 = 0.173287 - 0.125
    Row('PolyFocalLossX', 0, 1, 0.0482868, {'alpha': None, 'epsilon': -1.0}),
    #
    # + (1/2)^1 * 0.693147
    Row('AsymmetricLossX', 0, 1, 0.346574),
    # - m = 1/2 - 0.05 = 0.45: 0.45^4 * -ln(0.55) = 0.0410063 * 0.597837
    Row('AsymmetricLossX', 0, 0, 0.0245150),
    # - m = 3/4 - 0.05 = 0.7: 0.7^4 * -ln(0.3) = 0.2401 * 1.203973
    Row('AsymmetricLossX', LN3, 0, 0.289074),
    # - p = 1/100 is below the margin 0.05: m = 0
    Row('AsymmetricLossX', -LN99, 0, 0.0),
    # q Half of each: (1/4)^2 * 0.287682 / 2 + (3/4)^2 * 1.386294 / 2 = 0.00899006 + 0.389895
    Row('AsymmetricLossX', LN3, 0.5, 0.398885, {'gamma_pos': 2.0, 'gamma_neg': 2.0, 'clip': 0.0}),
    #
    # + BCE(ln 3, 1)
    Row('MALossX', LN3, 1, 0.287682),
    # q q^1.5 = 1/8: 0.287682 / 8 + 1.386294 * 7/8 = 0.0359603 + 1.213007
    Row('MALossX', LN3, 0.25, 1.248968),
    # - (3/4)^1.5 = 0.649519, times 1.386294
    Row('MALossX', LN3, 0, 0.900424),
    # - 0.5 * (1/2)^2 * 0.693147
    Row('MALossX', 0, 0, 0.0866434, {'alpha': 0.5, 'gamma': 2.0}),
    #
    # + p = 1/16, t = (1/16)^0.25 * 1 = 1/2: (-ln(1/16) - ln(15/16)) / 2 = (2.772589 + 0.064539) / 2
    Row('IABCELossX', -LN15, 1, 1.418564),
    # q p = 1/4, t = (1/4 * 1/4)^0.5 = 1/4: 1.386294 / 4 + 0.287682 * 3/4 = 0.346574 + 0.215762
    Row('IABCELossX', -LN3, 0.25, 0.562335, {'alpha': 0.5}),
    # q t = (1/4 * 1/10000)^0.5 = 0.005 is raised to 0.01: 0.01 * 1.386294 + 0.99 * 0.287682
    Row('IABCELossX', -LN3, 0.0001, 0.298668, {'alpha': 0.5}),
    # - (3/4)^2 * 1.386294
    Row('IABCELossX', LN3, 0, 0.779790),
    #
    # + Without data g = 1, so that it is focal loss: 0.25 * (1/2)^2 * 0.693147
    Row('EqualizedFocalLossX', 0, 1, 0.0433217, EFL),
    # + g = 1/2, the exponent is 2 + 8 * 1/2 = 6: 6/2 * 0.25 * (1/2)^6 * 0.693147
    Row('EqualizedFocalLossX', 0, 1, 0.00812282, EFL, {'pos_grad': [1.0], 'neg_grad': [2.0]}),
    # - g = 1/2, the exponent is 2 + 2 * 1/2 = 3: 3/2 * 0.75 * (3/4)^3 * 1.386294
    Row(
        'EqualizedFocalLossX', LN3, 0, 0.657948, {**EFL, 'scale_factor': 2.0},
        {'pos_grad': [1.0], 'neg_grad': [2.0]},
    ),
    #
    # + 0.25 * (1 - 1/2)^2 * 0.693147
    Row('PositionSupervisedLossX', 0, 1, 0.0433217),
    # q (1/2)^2 = 1/4: 0.25 * (3/4 - 1/4)^2 * 1.111641
    Row('PositionSupervisedLossX', LN3, 0.5, 0.0694776),
    # q 0.25^0.5 = 1/2: (3/4 - 1/2)^2 * 0.836988
    Row('PositionSupervisedLossX', LN3, 0.25, 0.0523118, {'alpha': None, 'exponent': 0.5}),
    # - 0.75 * (3/4)^2 * 1.386294
    Row('PositionSupervisedLossX', LN3, 0, 0.584843),
    #
    # One class, delta = 1/2: H(z) is z + 1/2 between 0 and 1.
    # +- Equal logits: H(0) = 1/2 of the negative, and of the positive itself: 1/2 / (1/2 + 1/2)
    Row('RankSortLossX', [[0], [0]], [[1.0], [0.0]], 0.5),
    # +- Negatives at 1/4 and 2 above the positive: H = 3/4 and 1, (7/4) / (1/2 + 7/4) = 7/9
    Row('RankSortLossX', [[0], [0.25], [2]], [[1.0], [0.0], [0.0]], 0.777778),
    # q- Delta 1: H(1) = 1 and H(-1) = 0. Of q = 1/4 at 1 and q = 3/4 at 0, the latter has above it
    # one positive, worse by 1 - q = 3/4: (1 * 3/4 + 1/2 * 1/4) / (3/2) - 1/4 = 7/12 - 1/4 = 1/3
    Row('RankSortLossX', [[1], [0]], [[0.25], [0.75]], 0.333333, {'delta': 1.0}),
    #
    # q p = (1/2, 3/4), q = (1/2, 1/2): BCE is 0.693147 + 0.836988 = 1.530135. A constant q has
    # correlation 0: 1.530135 + 0.2 * (1 - 0)
    Row('CorrelationLossX', [[0], [LN3]], [[0.5], [0.5]], 1.730135),
    # q p = (1/2, 3/4), q = (1/4, 1/2): cov = var = 1/64, means 1/4 apart,
    # rho = (2/64) / (2/64 + 4/64) = 1/3: 0.693147 + 0.836988 + 0.3 * (1 - 1/3)
    Row(
        'CorrelationLossX', [[0], [LN3]], [[0.25], [0.5]], 1.730135,
        {'correlation_weight': 0.3},
    ),
    # q Pearson's rho is 1: 1.530135 + 0
    Row('CorrelationLossX', [[0], [LN3]], [[0.25], [0.5]], 1.530135, {'kind': 'pearson'}),
    #
    # A mask of two pixels, of which the first is set; p = (1/2, 3/4).
    # Focal: (0.25 * (1/2)^2 * 0.693147 + 0.75 * (3/4)^2 * 1.386294) / 2 = 0.314082,
    # dice: 1 - (2 * 1/2 + 1) / (5/4 + 1 + 1) = 1 - 2 / 3.25 = 0.384615
    Row('FocalDiceLossX', [[[0, LN3]]], [[[1.0, 0.0]]], 0.698698),
    # p = (1/2, 1/2). Dice alone, twice: 2 * (1 - (2 * 1/2 + 0.5) / (1 + 1 + 0.5)) = 2 * (1 - 0.6)
    Row(
        'FocalDiceLossX', [[[0, 0]]], [[[1.0, 0.0]]], 0.8,
        {'focal_weight': 0.0, 'dice_weight': 2.0, 'smooth': 0.5},
    ),
    # p = (3/4, 1/2), both are set. Cross-entropy: (0.287682 + 0.693147) / 2 = 0.490415,
    # dice: 1 - (2 * 5/4 + 1) / (5/4 + 2 + 1) = 1 - 3.5 / 4.25 = 0.176471
    Row('FocalDiceLossX', [[[LN3, 0]]], [[[1.0, 1.0]]], 0.666885, BCE),
    #
    # The same box: IoU 1, no distance.
    Row('FocalEIoULossX', [[0, 0, 2, 2]], [[0.0, 0.0, 2.0, 2.0]], 0.0),
    # IoU 2/4; centres 0.5 apart in a hull of diagonal^2 = 8; heights 1 apart in a hull of height 2:
    # (1/2)^0.5 * (1 - 1/2 + 0.25/8 + 1/4) = 0.707107 * 0.78125
    Row('FocalEIoULossX', [[0, 0, 2, 2]], [[0.0, 0.0, 2.0, 1.0]], 0.552427),
    # IoU 1/7; centres^2 = 1 + 1 in a hull of diagonal^2 = 18; equal sides:
    # (1/7)^0.5 * (1 - 1/7 + 2/18) = 0.377964 * 0.968254
    Row('FocalEIoULossX', [[0, 0, 2, 2]], [[1.0, 1.0, 3.0, 3.0]], 0.365966),
    # IoU 0, not weighed by it; centres 1 apart in a hull of diagonal^2 = 4 + 1: 1 + 1/5
    Row('FocalEIoULossX', [[0, 0, 1, 1]], [[1.0, 0.0, 2.0, 1.0]], 1.2, {'gamma': 0.0}),
]  # fmt: skip


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.loss)
def test_value(row: Row) -> None:
    loss = MODELS.build({'type': row.loss, 'reduction': 'sum', **row.settings})
    if row.state:
        loss.eval()
        for name, values in row.state.items():
            getattr(loss, name).copy_(torch.tensor(values))
    pred, target = (v if isinstance(v, list) else [[float(v)]] for v in (row.pred, row.target))
    got = loss(torch.tensor(pred, dtype=torch.float64), torch.tensor(target))
    assert got.item() == pytest.approx(row.expected, rel=2e-6, abs=1e-7)


@pytest.mark.parametrize('loss', losses())
def test_every_loss_has_two_rows_or_more(loss: str) -> None:
    assert sum(row.loss == loss for row in ROWS) >= 2
