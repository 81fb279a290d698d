"""One row per loss: what to vary, and which scalar-loop reference it must equal.

Adding a loss means one formula in ``reference_formulas.FORMULAS`` and one row in ``CASES``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import reference_formulas
from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.catalogue import classification_losses

CHANNELS = 4
# Powers of two: exact in every dtype. Class 0 has no data yet, class 2 has more positive gradient.
EFL_STATE = {'pos_grad': [0.0, 0.25, 2.0, 0.125, 0.0], 'neg_grad': [0.0, 0.5, 1.0, 1.0, 0.5]}


@dataclass(frozen=True)
class Case:
    """A classification loss.

    Attributes:
        type: its registered name.
        variations: constructor arguments to vary, the first is ``{}``.
        half_gamma: those that give it exponents below 1.
        base: those of every variation.
        per_class_alpha: whether ``alpha`` may be one number for each class.
        state: values of its buffers for five classes.
        zero_quality_is_positive: whether a match without overlap is a positive.
        rtol: tolerance of values in float64.
    """

    type: str
    variations: tuple[dict[str, Any], ...]
    half_gamma: dict[str, Any]
    base: dict[str, Any] = field(default_factory=dict)
    per_class_alpha: bool = False
    state: dict[str, list[float]] = field(default_factory=dict)
    zero_quality_is_positive: bool = False
    rtol: float = 1e-8

    @property
    def kind(self) -> type[DenseClsLoss]:
        return classification_losses()[self.type]

    @property
    def softmax(self) -> bool:
        return self.base.get('use_sigmoid') is False

    @property
    def id(self) -> str:
        return self.type + ('-softmax' if self.softmax else '')

    @property
    def formula(self) -> reference_formulas.Formula:
        return reference_formulas.FORMULAS[self.type]

    @property
    def forms(self) -> tuple[str, ...]:
        return ('labels', 'dense') if self.softmax else ('labels', 'tuple', 'dense')

    def sum_classes(self, kwargs: dict[str, Any]) -> bool:
        inner = kwargs.get('loss', {}).get('type', self.type)
        return self.softmax or reference_formulas.FORMULAS[inner].sum_classes

    def settings(self, channels: int = CHANNELS, **kwargs: Any) -> dict[str, Any]:
        """The constructor's arguments for a number of classes, those that need no default too."""
        config = {**self.kind.example_config(channels), **self.base, **kwargs}
        return {name: value for name, value in config.items() if name != 'type'}

    def build(self, kwargs: dict[str, Any], channels: int = CHANNELS) -> nn.Module:
        """The loss as a user makes it; one with gradient statistics gets fixed ones."""
        loss = self.kind(**self.settings(channels, **kwargs))
        if self.state:
            loss.eval()
        for name, values in self.state.items():
            loss.get_buffer(name).copy_(torch.tensor(values[:channels]))
        return loss


def alphas(*values: float | list[float] | None, **kwargs: Any) -> tuple[dict[str, Any], ...]:
    return tuple({'alpha': value, **kwargs} for value in values)


# Exact in every dtype, so that a loss may keep them as float32.
PER_CLASS = [0.125, 0.875, 0.5, 0.25]
CASES = [
    Case(
        'FocalLossX',
        ({}, *alphas(None, 0.6, PER_CLASS), {'gamma': 0.0}, {'gamma': [2.0, 0.5, 0.0, 3.0]}),
        half_gamma={'gamma': 0.5},
        per_class_alpha=True,
    ),
    Case(
        'FocalLossX',
        (
            {},
            *alphas(None, 1.5, [0.125, 2.0, 0.5, 0.25]),
            {'gamma': 0.0},
            {'gamma': [2.0, 0.5, 0.0, 3.0]},
        ),
        half_gamma={'gamma': 0.5},
        base={'use_sigmoid': False},
        per_class_alpha=True,
    ),
    Case(
        'VarifocalLossX',
        (
            {},
            *alphas(0.3, PER_CLASS),
            {'gamma': 0.0},
            {'gamma': 1.5, 'iou_weighted': False},
            {'detach': True},
            {'detach': True, 'gamma': 1.5, 'alpha': PER_CLASS},
        ),
        half_gamma={'gamma': 0.5},
        per_class_alpha=True,
    ),
    Case('QualityFocalLossX', ({}, {'beta': 0.0}, {'beta': 1.5}), half_gamma={'beta': 0.5}),
    Case(
        'SlideLossX',
        (
            {},
            {'auto_iou': 0.5},
            {'auto_iou': 0.05},
            {'momentum': 0.75},
            {'loss': {'type': 'VarifocalLossX', 'gamma': 1.5}},
            {'loss': {'type': 'QualityFocalLossX'}, 'auto_iou': 0.6},
        ),
        half_gamma={'loss': {'type': 'FocalLossX', 'gamma': 0.5}},
        rtol=1e-6,  # its running mean is float32
    ),
    Case(
        'PolyFocalLossX',
        ({}, {'epsilon': -3.0}, *alphas(None, PER_CLASS, gamma=1.5), {'gamma': 0.0}),
        half_gamma={'gamma': 0.5},
        per_class_alpha=True,
    ),
    Case(
        'AsymmetricLossX',
        (
            {},
            {'gamma_pos': 0.0, 'gamma_neg': 0.0, 'clip': 0.0},
            {'gamma_neg': 1.5, 'clip': 0.2},
            {'detach': True},
            {'detach': True, 'clip': 0.0},
        ),
        half_gamma={'gamma_pos': 0.5, 'gamma_neg': 0.5},
    ),
    Case(
        'MALossX',
        ({}, {'gamma': 0.0}, *alphas(0.6, PER_CLASS)),
        half_gamma={'gamma': 0.5},
        zero_quality_is_positive=True,
        per_class_alpha=True,
    ),
    Case(
        'IABCELossX',
        ({}, {'alpha': 0.75, 'gamma': 1.5}),
        half_gamma={'gamma': 0.5},
        zero_quality_is_positive=True,
    ),
    Case(
        'PositionSupervisedLossX',
        ({}, *alphas(None, PER_CLASS), {'gamma': 3.0, 'exponent': 0.5}, {'gamma': 0.0}),
        half_gamma={'gamma': 0.5},
        zero_quality_is_positive=True,
        per_class_alpha=True,
    ),
    Case(
        'EqualizedFocalLossX',
        ({}, {'scale_factor': 2.0}, *alphas(None, PER_CLASS, gamma=1.0)),
        half_gamma={'gamma': 0.5},
        per_class_alpha=True,
        state=EFL_STATE,
    ),
]
SIGMOID_CASES = [case for case in CASES if not case.softmax]
VARIED = [(case, kwargs) for case in CASES for kwargs in case.variations]


def name(value: Any) -> str | None:
    """A pytest id for a case or its arguments."""
    if isinstance(value, Case):
        return value.id
    if isinstance(value, dict):
        return ','.join(f'{k}={v}' for k, v in value.items()).replace(' ', '') or 'default'
    return None


each_case = pytest.mark.parametrize('case', CASES, ids=name)
each_sigmoid_case = pytest.mark.parametrize('case', SIGMOID_CASES, ids=name)
each_variation = pytest.mark.parametrize(('case', 'kwargs'), VARIED, ids=name)
each_reduction = pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])


@dataclass
class Batch:
    """Predictions, targets and weights of one call."""

    pred: Tensor
    target: Any
    weight: Tensor | None = None

    @property
    def lead(self) -> tuple[int, ...]:
        return tuple(self.pred.shape[:-1] if self.pred.ndim > 1 else self.pred.shape)

    @property
    def channels(self) -> int:
        return int(self.pred.shape[-1]) if self.pred.ndim > 1 else 1

    def rows(self, values: Tensor) -> list[list[float]]:
        flat = values.detach().to(torch.float64).flatten().tolist()
        return [flat[i : i + self.channels] for i in range(0, len(flat), self.channels)]

    def reference_target(self) -> tuple[Any, ...]:
        if isinstance(self.target, tuple):
            labels, quality = self.target
            return 'tuple', labels.flatten().tolist(), quality.flatten().tolist()
        if self.target.shape == self.pred.shape:
            return 'dense', self.rows(self.target)
        return 'labels', self.target.flatten().tolist()

    def with_pred(self, pred: Tensor) -> Batch:
        return Batch(pred, self.target, self.weight)


def weight_shapes(lead: tuple[int, ...], channels: int) -> list[tuple[int, ...]]:
    n = math.prod(lead)
    return [lead, (*lead, 1), (*lead, channels), (n,), (n * channels,)]


def make_batch(
    case: Case,
    form: str = 'labels',
    *,
    lead: tuple[int, ...] = (9,),
    channels: int = CHANNELS,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    scale: float = 2.0,
    ignore: int | None = None,
    weight: tuple[int, ...] | None = None,
    activated: bool = False,
    one_dimensional: bool = False,
) -> Batch:
    """Random logits with every kind of row: each class, background, quality 0 and 1, ignored."""
    g = torch.Generator().manual_seed(seed)
    if one_dimensional:
        channels = 1
    shape = lead if one_dimensional else (*lead, channels)
    pred = torch.randn(shape, generator=g, dtype=torch.float64) * scale
    if activated:
        pred = pred.sigmoid().clamp(0.02, 0.98)
    background = 0 if case.softmax else 1
    labels = torch.randint(0, channels + background, lead, generator=g)
    quality = torch.rand(lead, generator=g, dtype=torch.float64) * 0.98 + 0.01
    quality.view(-1)[::5] = 0.0
    quality.view(-1)[1::5] = 1.0
    if ignore is not None:
        labels.view(-1)[1::3] = ignore
    weights = None
    if weight is not None:
        weights = torch.rand(weight, generator=g, dtype=torch.float64).to(dtype)
        weights.view(-1)[::6] = 0.0
    pred = pred.to(dtype)
    target: Any = labels
    if form == 'tuple':
        target = (labels, quality.to(dtype))
    if form == 'dense':
        target = torch.rand(shape, generator=g, dtype=torch.float64).to(dtype)
        target.view(-1)[::2] = 0.0
        target.view(-1)[1::7] = 1.0
    return Batch(pred, target, weights)
