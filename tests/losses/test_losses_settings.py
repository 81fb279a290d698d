"""A mistake in a setting is an error that names it, what was expected, what came."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

import mmfocalx.losses
from helpers.cases import CASES, CHANNELS, SIGMOID_CASES, Case, name
from helpers.checks import assert_refused

N, C = 6, CHANNELS
nan = float('nan')


COMMON: list[tuple[dict[str, Any], str]] = [
    ({'reduction': 'avg'}, 'avg'),
    ({'reduction': None}, 'None'),
    ({'loss_weight': 'heavy'}, 'heavy'),
    ({'loss_weight': nan}, 'nan'),
    ({'activated': 'yes'}, 'yes'),
    ({'ignore_index': 1.5}, '1.5'),
    ({'ignore_index': 'background'}, 'background'),
    ({'label_smoothing': -0.1}, '-0.1'),
    ({'label_smoothing': 1.5}, '1.5'),
    ({'label_smoothing': nan}, 'nan'),
    ({'label_smoothing': 'a lot'}, 'a lot'),
    ({'ohem_ratio': 0}, '0'),
    ({'ohem_ratio': -0.5}, '-0.5'),
    ({'ohem_ratio': 1.5}, '1.5'),
    ({'ohem_ratio': nan}, 'nan'),
    ({'ohem_ratio': 'half'}, 'half'),
    ({'fused': 'perhaps'}, 'perhaps'),
    ({'use_sigmoid': 'maybe'}, 'maybe'),
    ({'use_sigmoid': None}, 'None'),
]


@pytest.mark.parametrize(('kwargs', 'given'), COMMON, ids=name)
def test_common_arguments(kwargs: dict[str, Any], given: str) -> None:
    (argument,) = kwargs
    for case in CASES:
        assert_refused(partial(case.kind, **case.settings(**kwargs)), argument, given)


@pytest.mark.parametrize('case', SIGMOID_CASES, ids=name)
def test_a_loss_without_a_softmax_form_refuses_it(case: Case) -> None:
    build = partial(case.kind, **case.settings(use_sigmoid=False))
    if case.kind.supports_softmax:
        assert build().sums_classes
    else:
        assert_refused(build, 'use_sigmoid', 'False')


SLIDE_INNER: list[dict[str, Any]] = [
    {'reduction': 'sum'},
    {'ignore_index': 255},
    {'ohem_ratio': 0.5},
    {'label_smoothing': 0.1},
    {'loss_weight': 2.0},
]
ALPHA: list[tuple[Any, str]] = [
    (-0.1, '-0.1'),
    ([0.5, -0.5], '-0.5'),
    (nan, 'nan'),
    ([0.5, nan], 'nan'),
    ('quarter', 'quarter'),
    ([], r'\[\]|\(\)|empty|length 0|0 '),
]
GAMMA: list[tuple[Any, str]] = [(-1.0, '-1'), (nan, 'nan'), ('two', 'two')]
OWN: list[tuple[str, dict[str, Any], str]] = [
    *(
        (loss, {'gamma': value, **extra}, given)
        for loss, extra in (
            ('FocalLossX', {}),
            ('FocalLossX', {'use_sigmoid': False}),
            ('VarifocalLossX', {}),
            ('PolyFocalLossX', {}),
            ('MALossX', {}),
            ('IABCELossX', {}),
            ('EqualizedFocalLossX', {'num_classes': C}),
            ('FocalDiceLossX', {}),
            ('FocalEIoULossX', {}),
        )
        for value, given in GAMMA
    ),
    *(
        (loss, {'alpha': value, **extra}, given)
        for loss, extra in (
            ('FocalLossX', {}),
            ('FocalLossX', {'use_sigmoid': False}),
            ('VarifocalLossX', {}),
            ('PolyFocalLossX', {}),
            ('MALossX', {}),
            ('EqualizedFocalLossX', {'num_classes': C}),
        )
        for value, given in ALPHA
    ),
    *(
        (loss, {'alpha': [0.5, 1.5, 0.5, 0.5], **extra}, '1.5')
        for loss, extra in (
            ('FocalLossX', {}),
            ('VarifocalLossX', {}),
            ('PolyFocalLossX', {}),
            ('MALossX', {}),
            ('EqualizedFocalLossX', {'num_classes': C}),
        )
    ),
    ('FocalLossX', {'alpha': 1.5}, '1.5'),
    ('FocalLossX', {'gamma': [2.0, -1.0]}, '-1'),
    ('FocalLossX', {'gamma': [2.0, nan]}, 'nan'),
    ('FocalLossX', {'gamma': None}, 'None'),
    ('VarifocalLossX', {'iou_weighted': 'yes'}, 'yes'),
    ('VarifocalLossX', {'detach': 'yes'}, 'yes'),
    ('QualityFocalLossX', {'beta': -2.0}, '-2'),
    ('QualityFocalLossX', {'beta': nan}, 'nan'),
    ('QualityFocalLossX', {'beta': None}, 'None'),
    ('PolyFocalLossX', {'epsilon': 'one'}, 'one'),
    ('PolyFocalLossX', {'epsilon': nan}, 'nan'),
    ('AsymmetricLossX', {'gamma_pos': -1.0}, '-1'),
    ('AsymmetricLossX', {'gamma_neg': -4.0}, '-4'),
    ('AsymmetricLossX', {'clip': -0.05}, '-0.05'),
    ('AsymmetricLossX', {'clip': 1.5}, '1.5'),
    ('AsymmetricLossX', {'clip': nan}, 'nan'),
    ('IABCELossX', {'alpha': -0.1}, '-0.1'),
    ('IABCELossX', {'alpha': 1.5}, '1.5'),
    ('EqualizedFocalLossX', {'num_classes': C, 'gamma': 0.0}, '0'),
    ('EqualizedFocalLossX', {'num_classes': C, 'scale_factor': -8.0}, '-8'),
    ('EqualizedFocalLossX', {'num_classes': 0}, '0'),
    ('EqualizedFocalLossX', {'num_classes': -1}, '-1'),
    ('EqualizedFocalLossX', {'num_classes': 2.5}, '2.5'),
    ('EqualizedFocalLossX', {'alpha': [0.5] * (C + 1), 'num_classes': C}, '5'),
    ('SlideLossX', {'auto_iou': 'median'}, 'median'),
    ('SlideLossX', {'auto_iou': -0.1}, '-0.1'),
    ('SlideLossX', {'auto_iou': 1.5}, '1.5'),
    ('SlideLossX', {'auto_iou': None}, 'None'),
    ('SlideLossX', {'momentum': -0.1}, '-0.1'),
    ('SlideLossX', {'momentum': 1.5}, '1.5'),
    ('SlideLossX', {'momentum': nan}, 'nan'),
    ('SlideLossX', {'loss': 'FocalLossX'}, 'FocalLossX'),
    ('SlideLossX', {'loss': {'type': 'FocalLossX', 'use_sigmoid': False}}, 'use_sigmoid|softmax'),
    ('SlideLossX', {'loss': {'type': 'SlideLossX'}}, 'SlideLossX'),
    *(
        ('SlideLossX', {'loss': {'type': 'FocalLossX', **inner}}, next(iter(inner)))
        for inner in SLIDE_INNER
    ),
    ('FocalDiceLossX', {'smooth': -1.0}, '-1'),
    ('FocalDiceLossX', {'focal_weight': nan}, 'nan'),
    ('FocalDiceLossX', {'dice_weight': 'one'}, 'one'),
    ('FocalDiceLossX', {'alpha': 1.5}, '1.5'),
    ('FocalDiceLossX', {'reduction': 'avg'}, 'avg'),
    ('FocalDiceLossX', {'loss_weight': 'heavy'}, 'heavy'),
    ('FocalEIoULossX', {'eps': 0.0}, '0'),
    ('FocalEIoULossX', {'eps': -1e-7}, '-1e-07'),
    ('FocalEIoULossX', {'reduction': 'avg'}, 'avg'),
    ('FocalEIoULossX', {'loss_weight': 'heavy'}, 'heavy'),
]


def build_directly(config: dict[str, Any]) -> Any:
    return getattr(mmfocalx.losses, config.pop('type'))(**config)


CONTEXT = [('num_classes', C), ('use_sigmoid', False)]  # beside the argument that is wrong


@pytest.mark.parametrize(('loss_type', 'kwargs', 'given'), OWN, ids=name)
def test_own_arguments(loss_type: str, kwargs: dict[str, Any], given: str) -> None:
    argument = next(k for k, v in kwargs.items() if (k, v) not in CONTEXT)
    assert_refused(lambda: getattr(mmfocalx.losses, loss_type)(**kwargs), argument, given)


def test_number_of_classes_is_required() -> None:
    with pytest.raises(TypeError, match='num_classes'):
        mmfocalx.losses.EqualizedFocalLossX()


@pytest.mark.parametrize('case', CASES, ids=name)
def test_unknown_argument(case: Case) -> None:
    with pytest.raises(TypeError, match=f"{case.type} .*'smooth_labels'"):
        case.kind(**case.settings(smooth_labels=0.1))


@pytest.mark.parametrize('build', [MODELS.build, build_directly], ids=['MODELS', 'directly'])
@pytest.mark.parametrize(
    ('config', 'nearest'),
    [
        ({'type': 'FocalLossX', 'gama': 2.0}, 'gamma'),
        ({'type': 'PolyFocalLossX', 'gama': 2.0}, 'gamma'),
        ({'type': 'EqualizedFocalLossX', 'num_classes': 3, 'scale': 8.0}, 'scale_factor'),
        ({'type': 'VarifocalLossX', 'iou_weight': True}, 'iou_weighted'),
        ({'type': 'SlideLossX', 'auto_iuo': 0.5}, 'auto_iou'),
        ({'type': 'SlideLossX', 'loss': {'type': 'AsymmetricLossX', 'gamma_pas': 1}}, 'gamma_pos'),
        ({'type': 'MALossX', 'reductoin': 'sum'}, 'reduction'),
        ({'type': 'QualityFocalLossX', 'ohem': 0.5}, 'ohem_ratio'),
        ({'type': 'FocalDiceLossX', 'smoth': 1.0}, 'smooth'),
        ({'type': 'FocalEIoULossX', 'gama': 1.0}, 'gamma'),
        ({'type': 'FocalEIoULossX', 'los_weight': 1.0}, 'loss_weight'),
    ],
    ids=name,
)
def test_unknown_argument_that_is_nearly_one(build: Any, config: Any, nearest: str) -> None:
    inner = config.get('loss', config)
    given = [key for key in inner if key not in ('type', 'num_classes')]
    with pytest.raises(TypeError) as caught:
        build(dict(config))
    assert f"{inner['type']} got an unexpected argument '{given[0]}'" in str(caught.value)
    assert f"Did you mean '{nearest}'?" in str(caught.value)


def test_unknown_argument_that_is_nearly_none() -> None:
    with pytest.raises(TypeError, match='It takes gamma, eps, reduction, loss_weight'):
        mmfocalx.losses.FocalEIoULossX(zzz=1)


@pytest.mark.parametrize(
    ('value', 'same'),
    [
        (torch.tensor([0.25, 0.5, 0.75, 1.0]), [0.25, 0.5, 0.75, 1.0]),
        (torch.tensor(0.5, dtype=torch.float64), 0.5),
        (torch.ones(C, dtype=torch.long), [1, 1, 1, 1]),
        (torch.tensor(0.75).expand(C), [0.75] * C),
    ],
    ids=str,
)
@pytest.mark.parametrize('loss_type', ['FocalLossX', 'VarifocalLossX', 'MALossX'])
def test_alpha_as_a_tensor(loss_type: str, value: torch.Tensor, same: Any) -> None:
    build = getattr(mmfocalx.losses, loss_type)
    pred, target = torch.linspace(-2, 2, N * C).reshape(N, C), torch.arange(N) % (C + 1)
    assert torch.equal(build(alpha=value)(pred, target), build(alpha=same)(pred, target))


@pytest.mark.parametrize(
    ('value', 'given'),
    [
        (torch.tensor([0.5, -0.5, 0.5, 0.5]), '-0.5'),
        (torch.full((1, C), 0.5), '1, 4'),
        (torch.full((C,), 0.5, requires_grad=True), 'requires_grad'),
        (torch.tensor([]), r'\[\]'),
        (np.full(C, 0.5), 'list.*array'),
        ({0.5}, r'list.*\{0.5\}'),
    ],
    ids=str,
)
def test_alpha_as_a_wrong_tensor(value: Any, given: str) -> None:
    assert_refused(lambda: mmfocalx.losses.FocalLossX(alpha=value), 'alpha', given)
