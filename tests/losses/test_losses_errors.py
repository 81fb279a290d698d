"""A mistake in a call is an error that names the argument, what was expected, what came."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mmfocalx.losses
from helpers.cases import CASES, CHANNELS, SIGMOID_CASES, Case, name
from helpers.checks import assert_refused

N, C = 6, CHANNELS
nan = float('nan')


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
    ('pred: sparse', {'pred': PRED.to_sparse()}, 'pred', 'sparse_coo'),
    ('target: list', {'target': LABELS.tolist()}, 'target', 'tensor of labels.*list'),
    ('target: list of rows', {'target': DENSE.tolist()}, 'target', 'tensor of labels.*list'),
    ('target: sparse', {'target': DENSE.to_sparse()}, 'target', 'sparse_coo'),
    ('target: sparse labels', {'target': LABELS.to_sparse()}, 'target', 'sparse_coo'),
    ('target: device', {'target': DENSE.to('meta')}, 'target', 'device, cpu.*meta'),
    ('target: device of labels', {'target': LABELS.to('meta')}, 'target', 'device, cpu.*meta'),
    ('pred: device', {'pred': PRED.to('meta')}, 'target', 'device, meta.*cpu'),
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
    ('weight: complex', {'weight': torch.ones(N, dtype=torch.complex64)}, 'weight', 'complex64'),
    ('weight: complex entries', {'weight': PRED.to(torch.complex128)}, 'weight', 'complex128'),
    ('weight: sparse', {'weight': torch.ones(N).to_sparse()}, 'weight', 'sparse_coo'),
    ('weight: device', {'weight': torch.ones(N, device='meta')}, 'weight', 'device, cpu.*meta'),
    ('avg_factor: negative', {'avg_factor': torch.tensor(-2.0)}, 'avg_factor', '-2'),
    ('avg_factor: negative, 1-d', {'avg_factor': torch.tensor([-0.5])}, 'avg_factor', '-0.5'),
    ('avg_factor: NaN', {'avg_factor': torch.tensor(nan)}, 'avg_factor', 'nan'),
    ('avg_factor: infinite', {'avg_factor': torch.tensor(float('inf'))}, 'avg_factor', 'inf'),
    ('avg_factor: complex', {'avg_factor': torch.tensor(1j)}, 'avg_factor', 'complex64'),
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
    ('quality device', {'target': (LABELS, QUALITY.to('meta'))}, 'target', 'device, cpu.*meta'),
    ('labels device', {'target': (LABELS.to('meta'), QUALITY)}, 'target', 'device, cpu.*meta'),
    ('quality sparse', {'target': (LABELS, QUALITY.to_sparse())}, 'target', 'sparse_coo'),
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


@pytest.mark.parametrize('value', [-0.5, 1.5, -4.0, float('inf')])
@pytest.mark.parametrize('case', CASES, ids=name)
def test_predictions_that_are_no_probabilities(case: Case, value: float) -> None:
    changed = {'pred': edited(PRED + 0.5, value)}
    assert_refused(call(case.build({'activated': True}), changed), 'pred', f'{value:g}')


@pytest.mark.parametrize('value', [0.0, 1.0, 1 + 2**-22, nan])
def test_probabilities_that_rounding_or_divergence_may_give(value: float) -> None:
    loss = mmfocalx.losses.FocalLossX(activated=True)(edited(PRED + 0.5, value), LABELS)
    assert bool(loss.isfinite()) is (value == value)


@pytest.mark.parametrize('value', ['', 'yes', '2', 'True'])
def test_switch_of_the_checks(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMFOCALX_CHECK_VALUES', value)
    for case in CASES:
        assert_refused(call(case.build({}), {}), 'MMFOCALX_CHECK_VALUES', f"'{value}'")


def test_checks_that_are_not_asked_for_still_run_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for value in ('0', '1'):
        monkeypatch.setenv('MMFOCALX_CHECK_VALUES', value)
        assert_refused(call(mmfocalx.losses.FocalLossX(), {'target': LABELS - 1}), 'target', '-1')


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
        ({'weight': torch.ones(2, device='meta')}, 'weight', 'device, cpu.*meta'),
        ({'weight': torch.ones(2, dtype=torch.complex64)}, 'weight', 'complex64'),
        ({'target': BOXES.to('meta')}, 'target', 'device, cpu.*meta'),
        ({'target': BOXES.to_sparse()}, 'target', 'sparse_coo'),
        ({'avg_factor': torch.tensor(-1.0)}, 'avg_factor', '-1'),
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
        ({'target': MASKS.to('meta')}, 'target', 'device, cpu.*meta'),
        ({'target': MASKS.to_sparse()}, 'target', 'sparse_coo'),
        ({'weight': torch.ones(2, device='meta')}, 'weight', 'device, cpu.*meta'),
        ({'avg_factor': torch.tensor(nan)}, 'avg_factor', 'nan'),
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
