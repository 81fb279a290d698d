"""The mask and box losses, which stand outside the classification base, against scalar loops."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS

import mmfocalx.losses
from helpers.checks import check_box_loss, check_mask_loss
from helpers.masks_and_boxes import boxes, masks

REDUCTIONS: list[dict[str, Any]] = [
    {},
    {'reduction_override': 'none'},
    {'reduction_override': 'sum'},
    {'avg_factor': 2.5},
    {'avg_factor': torch.tensor([4.0], dtype=torch.float64)},
]
MASK_KWARGS: list[dict[str, Any]] = [
    {},
    {'gamma': 0.0, 'alpha': None},
    {'focal_weight': 20.0, 'dice_weight': 0.5, 'smooth': 0.1, 'loss_weight': 2.0},
    {'focal_weight': 0.0, 'reduction': 'none'},
    {'dice_weight': 0.0, 'gamma': 0.5},
]
BOX_KWARGS: list[dict[str, Any]] = [
    {},
    {'gamma': 0.0},
    {'gamma': 2.0, 'loss_weight': 5.0},
    {'reduction': 'sum'},
]


def mask_loss(**kwargs: Any) -> Any:
    return mmfocalx.losses.FocalDiceLossX(**kwargs)


def box_loss(**kwargs: Any) -> Any:
    return mmfocalx.losses.FocalEIoULossX(**kwargs)


@pytest.mark.parametrize('kwargs', MASK_KWARGS, ids=str)
def test_focal_dice(kwargs: dict[str, Any]) -> None:
    for seed, shape in enumerate([(3, 2, 3), (2, 2, 2, 1), (1, 1, 1)]):
        logits, target = masks(*shape, seed=seed)
        weight = torch.rand(shape[0], dtype=torch.float64)
        for call in REDUCTIONS:
            if kwargs.get('reduction') == 'sum' and 'avg_factor' in call:
                continue
            check_mask_loss(mask_loss(**kwargs), kwargs, logits, target, **call)
            check_mask_loss(mask_loss(**kwargs), kwargs, logits, target, weight=weight, **call)


def test_focal_dice_of_integer_masks() -> None:
    logits, target = masks(3, 4, 5)
    for kind in (torch.int64, torch.bool, torch.uint8):
        check_mask_loss(mask_loss(), {}, logits, (target > 0.5).to(kind))


@pytest.mark.parametrize('kwargs', BOX_KWARGS, ids=str)
def test_focal_eiou(kwargs: dict[str, Any]) -> None:
    for call in REDUCTIONS:
        if kwargs.get('reduction') == 'sum' and 'avg_factor' in call:
            continue
        for shape in (None, (6,), (6, 4)):
            weight = None if shape is None else torch.rand(shape, dtype=torch.float64)
            check_box_loss(box_loss(**kwargs), kwargs, *boxes(6), weight=weight, **call)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_other_precisions(dtype: torch.dtype) -> None:
    check_mask_loss(mask_loss(), {}, *masks(3, 4, 5, dtype=dtype))
    check_box_loss(box_loss(), {}, *boxes(6, dtype=dtype))


def test_half_precision_boxes_of_an_image() -> None:
    """Areas and squared sides of these boxes are beyond the largest float16."""
    pred = torch.tensor([[0.0, 0.0, 1000.0, 800.0]], dtype=torch.float16).requires_grad_()
    loss = box_loss()(pred, torch.tensor([[50.0, 0.0, 1100.0, 900.0]], dtype=torch.float16))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all() and pred.grad.abs().sum() > 0


def test_equal_boxes_cost_nothing() -> None:
    _, target = boxes(5)
    pred = target.clone().requires_grad_()
    loss = box_loss()(pred, target)
    loss.backward()
    assert loss.abs() < 1e-6 and pred.grad.isfinite().all()


def test_disjoint_and_degenerate_boxes_are_finite() -> None:
    pred = torch.tensor(
        [[0.0, 0, 1, 1], [3, 3, 3, 3], [5, 5, 2, 2], [1, 1, 2, 2]], dtype=torch.float64
    ).requires_grad_()
    target = torch.tensor(
        [[9.0, 9, 10, 10], [3, 3, 3, 3], [1, 1, 4, 4], [2, 2, 3, 3]], dtype=torch.float64
    )
    for gamma in (0.0, 0.5, 2.0):
        pred.grad = None
        losses = box_loss(gamma=gamma)(pred, target, reduction_override='none')
        losses.sum().backward()
        assert losses.isfinite().all() and pred.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_extreme_mask_logits(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, 1e4, -100, 100, 0, 1e4]], dtype=dtype).view(1, 2, 3)
    for value in (0.0, 0.5, 1.0):
        for gamma in (0.5, 2.0):
            pred = logits.clone().requires_grad_()
            loss = mask_loss(gamma=gamma)(pred, torch.full_like(logits, value))
            loss.backward()
            assert loss.isfinite() and pred.grad.isfinite().all()


def test_gradcheck() -> None:
    logits, target = masks(2, 3, 4)
    assert torch.autograd.gradcheck(lambda x: mask_loss()(x, target), logits.requires_grad_())
    pred, wanted = boxes(4)
    loss = box_loss(gamma=0.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, wanted), pred.requires_grad_())


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_empty(reduction: str) -> None:
    for loss, shape in (
        (mask_loss(), (0, 4, 5)),
        (mask_loss(), (0, 2, 4, 5)),
        (box_loss(), (0, 4)),
    ):
        pred = torch.zeros(shape).requires_grad_()
        got = loss(pred, torch.zeros(shape), reduction_override=reduction)
        assert (got == 0).all() and (got.ndim == 0 or reduction == 'none')
        (got * 3).sum().backward()
        assert pred.grad is not None and pred.grad.shape == shape


def test_modules() -> None:
    for loss, batch in ((mask_loss(), masks(3, 4, 5)), (box_loss(), boxes(6))):
        expected = loss(*batch)
        for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            torch.testing.assert_close(other(*batch), expected)
        built = MODELS.build({'type': type(loss).__name__})
        torch.testing.assert_close(built(*batch), expected)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_random_shapes(seed: int, n: int, height: int, width: int) -> None:
    check_mask_loss(mask_loss(), {}, *masks(n, height, width, seed=seed))
    check_box_loss(box_loss(), {}, *boxes(n, seed=seed))
