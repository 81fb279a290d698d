"""Value and gradient of a reduced loss in one pass over the logits.

The pass keeps nothing but the gradient, of the size of the logits. Compiled, it is one loop that
reads each logit once; eager, it works through blocks of rows small enough for a CPU's cache. Both
run the loss's own ``entries``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from .blockwise import BLOCK, blockwise, computed_in
from .compiled import Pass, compiled_pass
from .targets import CheckedTarget

if TYPE_CHECKING:
    from .base import DenseClsLoss

Loss = TypeVar('Loss', bound=nn.Module)


def scaled_sum(
    loss: DenseClsLoss,
    x: Tensor,
    checked: CheckedTarget,
    weight: Tensor | None,
    factor: float,
    divisor: float | Tensor,
) -> Tensor:
    """``factor`` times the sum of the entries of a loss, over ``divisor``: 0-d.

    Args:
        loss: the loss, whose ``fused`` chooses the pass.
        x: (N, C) predictions as given.
        checked: their targets.
        weight: (N, 1), (N, C) or None.
        factor: a number.
        divisor: a number or a 0-d tensor.
    """
    if isinstance(divisor, Tensor):
        scale = factor / divisor.to(x.device, computed_in(x))
    else:
        scale = x.new_full((), factor / divisor, dtype=computed_in(x))
    if x.shape[0] > 1 and _only_x_is_trained(loss, x, weight, scale):
        run = compiled_pass(loss, x, checked, weight)
        if run is None and x.numel() > BLOCK:
            run = blockwise
        if run is not None:
            return _OnePass.apply(x, loss, checked, weight, scale, run)
    return loss.entries(x, checked, weight).sum() * scale


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        loss: DenseClsLoss,
        checked: CheckedTarget,
        weight: Tensor | None,
        scale: Tensor,
        run: Pass,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            total, ctx.gradient = run(loss, x.detach(), checked, weight, scale)
        ctx.save_for_backward(x)
        ctx.call = _with_state_of_now(loss), checked, weight, scale
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            gradient = _plain_gradient(ctx, grad_output)
        elif grad_output.device.type != 'cpu' or grad_output != 1:
            gradient.mul_(grad_output)
        return gradient.to(ctx.saved_tensors[0].dtype), None, None, None, None, None


def _plain_gradient(ctx: Any, grad_output: Tensor) -> Tensor:
    """The gradient by the plain formula: of a second backward, or one to be differentiated."""
    (x,), (loss, checked, weight, scale) = ctx.saved_tensors, ctx.call
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view, as what is hooked to x is called by the backward around this one.
        x = x.view_as(x) if create_graph else x.detach().requires_grad_()
        total = loss.entries(x, checked, weight).sum() * scale
        return torch.autograd.grad(total, x, grad_output, create_graph=create_graph)[0]


def _only_x_is_trained(loss: DenseClsLoss, x: Tensor, weight: Tensor | None, scale: Tensor) -> bool:
    """Whether the gradient by ``x``, and no other derivative, is asked for."""
    others = (scale, *loss.parameters()) if weight is None else (scale, weight, *loss.parameters())
    return (
        x.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)
        and unpack_dual(x).tangent is None
        and not any(other.requires_grad for other in others)
        and not torch._C._are_functorch_transforms_active()
        # Checkpoints and offloading see what the plain formula saves; the pass saves nothing.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def _with_state_of_now(loss: Loss) -> Loss:
    """A shallow copy that later updates of the loss's buffers do not reach."""
    if next(loss.buffers(), None) is None:
        return loss
    frozen = copy.copy(loss)
    frozen._buffers = {name: None if b is None else b.clone() for name, b in loss._buffers.items()}
    inner = loss.named_children()
    frozen._modules = {name: _with_state_of_now(module) for name, module in inner}
    return frozen
