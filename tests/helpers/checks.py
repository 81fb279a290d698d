"""Plain functions that raise AssertionError where a loss departs from the contract.

The tests call them on the code as it is; the mutation tests call the same functions on broken code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import reference, reference_formulas
from helpers.cases import Batch, Case

TOLERANCE = {
    torch.float32: 2e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
Call = dict[str, Any]


def assert_close(got: list[float], expected: list[float], rtol: float, what: str) -> None:
    assert len(got) == len(expected), f'{what}: {len(got)} elements, expected {len(expected)}'
    largest = max((abs(e) for e in expected), default=0.0)
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        allowed = rtol * (abs(e) + 1e-2 * largest) + 1e-12
        assert abs(g - e) <= allowed, f'{what}[{i}]: got {g!r}, expected {e!r}'


def as_list(value: Any) -> list[float]:
    if isinstance(value, Tensor):
        return [float(v) for v in value.detach().to(torch.float64).flatten()]
    if isinstance(value, (int, float)):
        return [float(value)]
    return [float(v) for v in value]


def cotangent(n: int) -> list[float]:
    """What unreduced losses are multiplied with before they are differentiated."""
    return [1.0 + 0.25 * (i % 5) for i in range(n)]


def expected(
    case: Case,
    kwargs: Call,
    batch: Batch,
    state: reference_formulas.State | None = None,
    *,
    avg_factor: Any = None,
    reduction_override: str | None = None,
) -> Callable[[reference_formulas.Rows], list[float] | float]:
    """The scalar loop of this call, as a function of the rows of ``pred``."""
    return reference.classification_loss(
        case.formula,
        {**case.base, **kwargs},
        batch.reference_target(),
        lead=batch.lead,
        channels=batch.channels,
        frozen=batch.rows(batch.pred),
        weight=None if batch.weight is None else as_list(batch.weight),
        weight_shape=() if batch.weight is None else tuple(batch.weight.shape),
        avg_factor=None if avg_factor is None else float(avg_factor),
        reduction=reduction_override,
        state=case.state if state is None else state,
    )


def expected_loss(case: Case, kwargs: Call, batch: Batch, **call: Any) -> list[float] | float:
    return expected(case, kwargs, batch, **call)(batch.rows(batch.pred))


def expected_gradient(case: Case, kwargs: Call, batch: Batch, **call: Any) -> list[float]:
    loop = expected(case, kwargs, batch, **call)

    def scalar(rows: reference_formulas.Rows) -> float:
        values = loop(rows)
        if isinstance(values, float):
            return values
        return math.fsum(v * c for v, c in zip(values, cotangent(len(values)), strict=True))

    step = 1e-4 if kwargs.get('activated') else 1e-3
    return [v for row in reference.gradient(scalar, batch.rows(batch.pred), step) for v in row]


def backward(loss: Tensor, pred: Tensor) -> Tensor:
    (loss.flatten() * torch.tensor(cotangent(loss.numel())).to(loss)).sum().backward()
    assert pred.grad is not None, 'no gradient reached pred'
    return pred.grad


def check_value(
    case: Case, kwargs: Call, batch: Batch, rtol: float | None = None, **call: Any
) -> Tensor:
    """The loss equals the scalar loop; a reduced one has no dimension."""
    loss = case.build(kwargs, batch.channels)
    got = loss(batch.pred, batch.target, batch.weight, **call)
    wanted = expected_loss(case, kwargs, batch, **call)
    if isinstance(wanted, float):
        assert got.ndim == 0, f'reduced loss has shape {tuple(got.shape)}'
    double = batch.pred.dtype == torch.float64
    rtol = rtol or (case.rtol if double else TOLERANCE[torch.float32])
    assert_close(as_list(got), as_list(wanted), rtol, f'{case.id} {kwargs}')
    return got


def check_gradient(
    case: Case, kwargs: Call, batch: Batch, rtol: float | None = None, **call: Any
) -> Tensor:
    """The gradient equals the finite difference, factors without gradient held constant."""
    loss = case.build(kwargs, batch.channels)
    pred = batch.pred.detach().clone().requires_grad_()
    grad = backward(loss(pred, batch.target, batch.weight, **call), pred)
    assert grad.dtype == batch.pred.dtype, f'gradient is {grad.dtype}, pred is {pred.dtype}'
    rtol = rtol or TOLERANCE.get(pred.dtype, 10 * case.rtol)
    numeric = expected_gradient(case, kwargs, batch, **call)
    assert_close(as_list(grad), numeric, rtol, f'gradient of {case.id} {kwargs}')
    return grad


def check_both(case: Case, kwargs: Call, batch: Batch, **call: Any) -> None:
    check_value(case, kwargs, batch, **call)
    check_gradient(case, kwargs, batch, **call)


def check_ignored(case: Case, kwargs: Call, batch: Batch, ignore: int) -> None:
    """Ignored rows: zero loss, zero gradient, not counted."""
    kwargs = {**kwargs, 'ignore_index': ignore}
    check_both(case, kwargs, batch)
    labels = batch.target[0] if isinstance(batch.target, tuple) else batch.target
    ignored = labels.flatten() == ignore
    assert ignored.any() and not ignored.all()
    pred = batch.pred.detach().clone().requires_grad_()
    losses = case.build(kwargs, batch.channels)(
        pred, batch.target, batch.weight, reduction_override='none'
    )
    grad = backward(losses, pred)
    assert (losses.reshape(ignored.numel(), -1)[ignored] == 0).all()
    assert (grad.reshape(ignored.numel(), -1)[ignored] == 0).all()


def check_loss_weight(case: Case, kwargs: Call, batch: Batch) -> None:
    """``loss_weight`` scales value and gradient under every reduction."""
    for reduction in ('none', 'mean', 'sum'):
        check_both(case, {**kwargs, 'loss_weight': 2.5}, batch, reduction_override=reduction)


def check_finite(case: Case, kwargs: Call, batch: Batch) -> tuple[Tensor, Tensor]:
    loss = case.build(kwargs, batch.channels)
    pred = batch.pred.detach().clone().requires_grad_()
    value = loss(pred, batch.target, batch.weight, reduction_override='none')
    assert value.isfinite().all(), f'{case.id} {kwargs}: loss {value}'
    grad = backward(value, pred)
    assert grad.isfinite().all(), f'{case.id} {kwargs}: gradient {grad}'
    return value, grad


def check_zero_with_gradient(case: Case, kwargs: Call, batch: Batch, **call: Any) -> None:
    """A loss of nothing: a finite zero that still reaches ``pred`` with a zero gradient."""
    pred = batch.pred.detach().clone().requires_grad_()
    loss = case.build(kwargs, batch.channels)(pred, batch.target, batch.weight, **call)
    assert (loss == 0).all()
    (loss * 3).sum().backward()
    assert pred.grad is not None and pred.grad.shape == pred.shape and (pred.grad == 0).all()


def check_mask_loss(loss: Any, kwargs: Call, logits: Tensor, masks: Tensor, **call: Any) -> None:
    """FocalDiceLossX: value and gradient against the scalar loop."""
    defaults = {**reference_formulas.MASK_DEFAULTS, **kwargs}
    rows, target_rows = _rows(logits), _rows(masks)

    def expected(preds: reference_formulas.Rows) -> list[float]:
        losses = [
            reference_formulas.focal_dice(p, t, defaults)
            for p, t in zip(preds, target_rows, strict=True)
        ]
        return _per_sample(losses, kwargs, call)

    _check_rowwise(loss, logits, masks, call, expected, rows)


def check_box_loss(loss: Any, kwargs: Call, boxes: Tensor, targets: Tensor, **call: Any) -> None:
    """FocalEIoULossX: value and gradient against the scalar loop, IoU ** gamma held constant."""
    defaults = {**reference_formulas.BOX_DEFAULTS, **kwargs}
    rows, target_rows = _rows(boxes), _rows(targets)

    def expected(preds: reference_formulas.Rows) -> list[float]:
        losses = [
            reference_formulas.focal_eiou(p, t, defaults, f)
            for p, t, f in zip(preds, target_rows, rows, strict=True)
        ]
        return _per_sample(losses, kwargs, call)

    _check_rowwise(loss, boxes, targets, call, expected, rows, rtol=1e-6)


def _rows(values: Tensor) -> reference_formulas.Rows:
    rows: reference_formulas.Rows = values.detach().to(torch.float64).flatten(1).tolist()
    return rows


def _per_sample(losses: list[float], kwargs: Call, call: Call) -> list[float]:
    weight = call.get('weight')
    if weight is not None:
        weight = weight.reshape(len(losses), -1).mean(1).tolist()
    reduction = call.get('reduction_override') or kwargs.get('reduction', 'mean')
    avg = call.get('avg_factor')
    avg = None if avg is None else float(avg)
    return as_list(reference.per_sample_loss(losses, kwargs, weight, reduction, avg))


def _check_rowwise(
    loss: Any,
    pred: Tensor,
    target: Tensor,
    call: Call,
    expected: Any,
    rows: reference_formulas.Rows,
    rtol: float = 1e-7,
) -> None:
    pred = pred.detach().clone().requires_grad_()
    rtol = TOLERANCE.get(pred.dtype, rtol)
    got = loss(pred, target, **call)
    assert_close(as_list(got), expected(rows), max(rtol, 1e-7), 'loss')

    def scalar(preds: reference_formulas.Rows) -> float:
        values = expected(preds)
        return math.fsum(v * c for v, c in zip(values, cotangent(len(values)), strict=True))

    grad = backward(got, pred)
    assert grad.dtype == pred.dtype
    numeric = [v for row in reference.gradient(scalar, rows, 1e-4) for v in row]
    assert_close(as_list(grad), numeric, rtol, 'gradient')


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
