"""The pass as autograd sees it: its backward hands out what the pass has computed, or computes."""

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
from .summable import Summable

Call = tuple[Summable, Batch, Tensor]
Pass = Callable[[Summable, Batch, Tensor], tuple[Tensor, Tensor] | None]


class ValueAndGradient(torch.autograd.Function):
    """Both in forward: the way of a CPU, which is busy with arithmetic."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        loss: Summable,
        batch: Batch,
        scale: Tensor,
        statistics: bool,
        run: Pass,
    ) -> Tensor:
        batch = batch._replace(x=x.detach())
        with _without_autocast(x):
            total, ctx.gradient = run(loss, batch, scale) or blockwise(loss, batch, scale)
            _remember(ctx, x, loss, batch, scale)
            if statistics:
                loss.update_gradient_statistics(loss.gradient_statistics(batch, ctx.gradient))
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            gradient = _plain_gradient(ctx.call, ctx.saved_tensors[0], grad_output)
        elif grad_output != 1:
            gradient.mul_(grad_output)
        return gradient.to(ctx.saved_tensors[0].dtype), None, None, None, None, None


class ValueThenGradient(torch.autograd.Function):
    """The gradient in backward, with the factor from upstream: the way of an accelerator.

    It is busy with memory; each of the two kernels reads the logits once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        loss: Summable,
        batch: Batch,
        scale: Tensor,
        statistics: bool,
        kernels: Kernels,
    ) -> Tensor:
        batch, ctx.kernels = batch._replace(x=x.detach()), kernels
        with _without_autocast(x):
            sums = kernels.row_sums(loss, batch)
            if sums is None:
                sums = loss.entries(batch, ANY_ORDER)
            total = sums.sum() * scale
            _remember(ctx, x, loss, batch, scale)
            if statistics:
                found = kernels.statistics(loss, batch, scale)
                if found is None:
                    gradient = _plain_gradient(ctx.call, x, torch.ones_like(total))
                    found = loss.gradient_statistics(batch, gradient)
                loss.update_gradient_statistics(found)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (x,), gradient = ctx.saved_tensors, None
        if not torch.is_grad_enabled():
            with _without_autocast(x):
                gradient = ctx.kernels.gradient(*ctx.call, grad_output)
        if gradient is None:
            gradient = _plain_gradient(ctx.call, x, grad_output)
        return gradient, None, None, None, None, None


def gradient_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a scalar function, itself without a derivative."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return torch.func.grad(function)(x.detach())
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x), x)[0]


def _remember(ctx: Any, x: Tensor, loss: Summable, batch: Batch, scale: Tensor) -> None:
    ctx.save_for_backward(x)
    ctx.call = loss.with_state_of_now(), batch, scale


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
