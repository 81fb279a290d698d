"""The pass as autograd sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch
from .blocks import blockwise
from .compiled import Kernels
from .elementary import ANY_ORDER
from .scaling import scaled
from .summable import Summable

Call = tuple[Summable, Batch, Tensor]


class ValueAndGradient(torch.autograd.Function):
    """Both in forward; what backward is left to do is the factor from upstream."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        loss: Summable,
        batch: Batch,
        scale: Tensor,
        statistics: bool,
        kernels: Kernels | None,
    ) -> Tensor:
        batch = batch._replace(x=x.detach())
        with _without_autocast(x):
            found = None if kernels is None else kernels.value_and_gradient(loss, batch, scale)
            total, ctx.gradient = blockwise(loss, batch, scale) if found is None else found
            ctx.save_for_backward(x)
            ctx.call = loss.with_state_of_now(), batch, scale
            if statistics:
                loss.update_gradient_statistics(_statistics(loss, batch, ctx.gradient, kernels))
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        (x,) = ctx.saved_tensors
        if gradient is None or torch.is_grad_enabled():
            gradient = _plain_gradient(ctx.call, x, grad_output)
        else:
            gradient = scaled(gradient, grad_output, x.dtype)
        return gradient, None, None, None, None, None


def _statistics(loss: Summable, batch: Batch, gradient: Tensor, kernels: Kernels | None) -> Tensor:
    found = None
    if kernels is not None and batch.x.device.type != 'cpu':
        found = kernels.statistics(loss, batch, gradient)
    return loss.gradient_statistics(batch, gradient) if found is None else found


def gradient_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a scalar function, itself without a derivative."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return torch.func.grad(function)(x.detach())
    with torch.enable_grad(), _kept_as_they_are():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x)[0]


def _plain_gradient(call: Call, x: Tensor, grad_output: Tensor) -> Tensor:
    """The gradient by the plain formula: of a second backward, or one to be differentiated."""
    loss, batch, scale = call
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view, as what is hooked to x is called by the backward around this one.
        x = x.view_as(x) if create_graph else x.detach().requires_grad_()
        total = loss.entries(batch._replace(x=x), ANY_ORDER).sum() * scale
        return torch.autograd.grad(total, x, grad_output, create_graph=create_graph)[0]


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    if not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _kept_as_they_are() -> AbstractContextManager[Any]:
    """Saved tensors beyond the reach of checkpoints, which count those of what they repeat."""
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved)
