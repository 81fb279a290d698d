"""A mistake is a ValueError or TypeError that names the argument, what was expected, what came."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch

import mmfocalx.losses
from cases import CASES, CHANNELS, SIGMOID_CASES, Case, name

N, C = 6, CHANNELS
nan = float('nan')


def assert_refused(function: Any, argument: str, *given: str) -> None:
    """``given`` are patterns of what came; what was expected has to be said as well."""
    with pytest.raises((ValueError, TypeError)) as caught:
        function()
    message = str(caught.value)
    assert re.search(rf'\b{argument}\b', message), f'{argument!r} is not named: {message}'
    for pattern in given:
        assert re.search(pattern, message), f'{pattern!r} was given: {message}'
    assert re.search('(?i)expect|must|should|needs?|has to|one of|only', message), (
        f'does not say what was expected: {message}'
    )


# -- constructor -------------------------------------------------------------------------------

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
        own = {'num_classes': C} if case.stateful else {}
        build = partial(getattr(mmfocalx.losses, case.type), **{**own, **case.base, **kwargs})
        assert_refused(build, argument, given)


@pytest.mark.parametrize('case', SIGMOID_CASES, ids=name)
def test_softmax_is_for_focal_loss_only(case: Case) -> None:
    if case.type != 'FocalLossX':
        own = {'num_classes': C} if case.stateful else {}
        loss = getattr(mmfocalx.losses, case.type)
        assert_refused(lambda: loss(use_sigmoid=False, **own), 'use_sigmoid', 'False')


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
    own = {'num_classes': C} if case.stateful else {}
    with pytest.raises(TypeError, match='smooth_labels'):
        getattr(mmfocalx.losses, case.type)(smooth_labels=0.1, **own, **case.base)


# -- call --------------------------------------------------------------------------------------

PRED = torch.zeros(N, C)
LABELS = torch.zeros(N, dtype=torch.long)
QUALITY = torch.full((N,), 0.5)
DENSE = torch.zeros(N, C)


def edited(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[1] = value
    return tensor


ANY: list[tuple[str, dict[str, Any], str, str]] = [
    ('pred: integers', {'pred': PRED.long()}, 'pred', 'int64'),
    ('pred: list', {'pred': PRED.tolist()}, 'pred', 'list'),
    ('pred: no dimension', {'pred': torch.tensor(0.0)}, 'pred', r'\(\)|\[\]|0-d'),
    ('pred: complex', {'pred': PRED.to(torch.complex64)}, 'pred', 'complex64'),
    ('target: list', {'target': LABELS.tolist()}, 'target', 'list'),
    ('target: None', {'target': None}, 'target', 'None'),
    ('target: too few', {'target': LABELS[:-1]}, 'target', '5'),
    ('target: transposed', {'target': DENSE.T.contiguous()}, 'target', r'4, 6'),
    ('target: broadcastable', {'target': DENSE[:1]}, 'target', '1, 4'),
    ('target: column', {'target': LABELS[:, None]}, 'target', '6, 1'),
    ('target: floating labels', {'target': LABELS.float()}, 'target', 'float32'),
    ('target: boolean labels', {'target': LABELS.bool()}, 'target', 'bool'),
    ('target: label too large', {'target': edited(LABELS, C + 1)}, 'target|labels', '5'),
    ('target: negative label', {'target': edited(LABELS, -1)}, 'target|labels', '-1'),
    ('target: dense > 1', {'target': edited(DENSE, 1.5)}, 'target', '1.5'),
    ('target: dense < 0', {'target': edited(DENSE, -0.5)}, 'target', '-0.5'),
    ('target: dense NaN', {'target': edited(DENSE, nan)}, 'target', 'nan'),
    ('target: dense counts', {'target': edited(DENSE, 2).long()}, 'target', '2'),
    ('weight: too few', {'weight': torch.ones(N - 1)}, 'weight', '5'),
    ('weight: per class', {'weight': torch.ones(C)}, 'weight', '4'),
    ('weight: row', {'weight': torch.ones(1, C)}, 'weight', '1, 4'),
    ('weight: no dimension', {'weight': torch.tensor(1.0)}, 'weight', r'\(\)|\[\]'),
    ('weight: number', {'weight': 2.0}, 'weight', 'float|2.0'),
    ('weight: transposed', {'weight': torch.ones(C, N)}, 'weight', '4, 6'),
    ('weight: three', {'weight': torch.ones(N, 1, C)}, 'weight', '6, 1, 4'),
    ('avg_factor: sum', {'avg_factor': 2.0, 'reduction_override': 'sum'}, 'avg_factor', 'sum'),
    ('avg_factor: two', {'avg_factor': torch.ones(2)}, 'avg_factor', '2'),
    ('avg_factor: text', {'avg_factor': 'all'}, 'avg_factor', 'all|str'),
    ('reduction', {'reduction_override': 'avg'}, 'reduction_override', 'avg'),
    ('reduction: type', {'reduction_override': 3}, 'reduction_override', '3'),
]
TUPLES: list[tuple[str, dict[str, Any], str, str]] = [
    ('one', {'target': (LABELS,)}, 'target', 'tuple|1'),
    ('three', {'target': (LABELS, QUALITY, QUALITY)}, 'target', 'tuple|3'),
    ('quality too short', {'target': (LABELS, QUALITY[:-1])}, 'quality|target', '5'),
    ('quality column', {'target': (LABELS, QUALITY[:, None])}, 'quality|target', '6, 1'),
    ('quality dense', {'target': (LABELS, DENSE)}, 'quality|target', '6, 4'),
    ('quality list', {'target': (LABELS, QUALITY.tolist())}, 'quality|target', 'list'),
    ('quality > 1', {'target': (LABELS, edited(QUALITY, 1.25))}, 'quality|target', '1.25'),
    ('quality < 0', {'target': (LABELS, edited(QUALITY, -0.25))}, 'quality|target', '-0.25'),
    ('quality NaN', {'target': (LABELS, edited(QUALITY, nan))}, 'quality|target', 'nan'),
    ('labels too short', {'target': (LABELS[:-1], QUALITY)}, 'labels|target', '5'),
    ('labels floating', {'target': (QUALITY, LABELS)}, 'labels|target', 'float32'),
    ('label too large', {'target': (edited(LABELS, C + 1), QUALITY)}, 'labels|target', '5'),
    ('label negative', {'target': (edited(LABELS, -2), QUALITY)}, 'labels|target', '-2'),
]


def named(rows: list[tuple[str, dict[str, Any], str, str]]) -> list[Any]:
    return [pytest.param(*values, id=row_id) for row_id, *values in rows]


def call(loss: Any, changed: dict[str, Any]) -> Any:
    return lambda: loss(**{'pred': PRED, 'target': LABELS, **changed})


@pytest.mark.parametrize(('changed', 'argument', 'given'), named(ANY))
def test_input(changed: dict[str, Any], argument: str, given: str) -> None:
    for case in CASES:
        assert_refused(call(case.build({}), changed), f'(?:{argument})', given)


@pytest.mark.parametrize(('changed', 'argument', 'given'), named(TUPLES))
def test_tuple_target(changed: dict[str, Any], argument: str, given: str) -> None:
    for case in SIGMOID_CASES:
        assert_refused(call(case.build({}), changed), f'(?:{argument})', given)


@pytest.mark.parametrize('case', CASES, ids=name)
def test_constructed_sum_with_avg_factor(case: Case) -> None:
    loss = case.build({'reduction': 'sum'})
    assert_refused(call(loss, {'avg_factor': 2.0}), 'avg_factor', 'sum')


@pytest.mark.parametrize('case', CASES, ids=name)
def test_other_labels_out_of_range_beside_ignored_ones(case: Case) -> None:
    loss = case.build({'ignore_index': 255})
    for wrong in (-1, 254):
        target = edited(edited(LABELS, wrong).flip(0), 255)
        assert_refused(call(loss, {'target': target}), '(?:target|labels)', str(wrong))


@pytest.mark.parametrize('case', CASES, ids=name)
def test_three_dimensional_pred_has_no_flat_labels(case: Case) -> None:
    changed = {'pred': torch.zeros(2, 3, C), 'target': LABELS}
    assert_refused(call(case.build({}), changed), 'target', '6')


def test_softmax_has_no_background_label_and_no_quality() -> None:
    loss = mmfocalx.losses.FocalLossX(use_sigmoid=False)
    assert_refused(call(loss, {'target': edited(LABELS, C)}), '(?:target|labels)', '4')
    assert_refused(call(loss, {'target': (LABELS, QUALITY)}), 'target', 'tuple')


@pytest.mark.parametrize('length', [1, C - 1, C + 1])
@pytest.mark.parametrize('case', [case for case in CASES if case.per_class_alpha], ids=name)
def test_per_class_alpha_of_the_wrong_length(case: Case, length: int) -> None:
    def build_and_call() -> None:
        case.build({'alpha': [0.5] * length})(PRED, LABELS)

    assert_refused(build_and_call, 'alpha', f'{C} classes|num_classes={C}')


@pytest.mark.parametrize('use_sigmoid', [True, False])
@pytest.mark.parametrize('length', [1, C - 1, C + 1])
def test_per_class_gamma_of_the_wrong_length(use_sigmoid: bool, length: int) -> None:
    loss = mmfocalx.losses.FocalLossX(gamma=[2.0] * length, use_sigmoid=use_sigmoid)
    assert_refused(lambda: loss(PRED, LABELS), 'gamma', f'{C} classes')


def test_equalized_focal_wants_its_number_of_classes() -> None:
    loss = mmfocalx.losses.EqualizedFocalLossX(num_classes=7)
    assert_refused(lambda: loss(PRED, LABELS), '(?:num_classes|pred)', '7', '4')


BOXES = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 5.0, 6.0]])


@pytest.mark.parametrize(
    ('changed', 'argument', 'given'),
    [
        ({'pred': BOXES[:, :3]}, 'pred', '2, 3'),
        ({'pred': BOXES.long()}, 'pred', 'int64'),
        ({'target': BOXES[:1]}, 'target', '1, 4'),
        ({'target': BOXES.tolist()}, 'target', 'list'),
        ({'weight': torch.ones(3)}, 'weight', '3'),
        ({'weight': torch.ones(1, 4)}, 'weight', '1, 4'),
        ({'reduction_override': 'avg'}, 'reduction_override', 'avg'),
        ({'avg_factor': 1.0, 'reduction_override': 'sum'}, 'avg_factor', 'sum'),
    ],
    ids=str,
)
def test_box_loss(changed: dict[str, Any], argument: str, given: str) -> None:
    loss = mmfocalx.losses.FocalEIoULossX()
    arguments = {'pred': BOXES, 'target': BOXES, **changed}
    assert_refused(lambda: loss(**arguments), argument, given)


MASKS = torch.zeros(2, 5, 6)


@pytest.mark.parametrize(
    ('changed', 'argument', 'given'),
    [
        ({'pred': MASKS[0]}, 'pred', '5, 6'),
        ({'pred': MASKS.long()}, 'pred', 'int64'),
        ({'target': MASKS[:1]}, 'target', '1, 5, 6'),
        ({'target': MASKS + 1.5}, 'target', '1.5'),
        ({'target': MASKS - 0.5}, 'target', '-0.5'),
        ({'target': MASKS * nan}, 'target', 'nan'),
        ({'weight': torch.ones(3)}, 'weight', '3'),
        ({'reduction_override': 'avg'}, 'reduction_override', 'avg'),
        ({'avg_factor': 1.0, 'reduction_override': 'sum'}, 'avg_factor', 'sum'),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_mask_loss(changed: dict[str, Any], argument: str, given: str) -> None:
    loss = mmfocalx.losses.FocalDiceLossX()
    arguments = {'pred': MASKS, 'target': MASKS, **changed}
    assert_refused(lambda: loss(**arguments), argument, given)
