"""Value and gradient of a reduced loss in one pass over the logits.

The pass keeps nothing but the gradient, of the size of the logits. Compiled, it is one loop or one
kernel that reads each logit once. On a CPU it can also run eager, through blocks of rows small
enough for a cache. Elsewhere, and everywhere where other derivatives are asked for, the formula
runs as it stands. All of them run the loss's own ``entries``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from ..batch import Batch
from ..precision import computed_in
from .autograd import ValueAndGradient, gradient_of
from .blocks import BLOCK
from .compiled import kernels_for
from .elementary import ANY_ORDER
from .summable import Summable

__all__ = ['Summable', 'gradient_of', 'scaled_sum']


def scaled_sum(loss: Summable, batch: Batch, factor: float, divisor: float | Tensor) -> Tensor:
    """``factor`` times the sum of the entries of a loss, over ``divisor``: 0-d.

    Args:
        loss: the loss, whose ``fused`` says whether to compile.
        batch: what it is computed on.
        factor: a number.
        divisor: a number or a 0-d tensor.
    """
    x = batch.x
    scale: float | Tensor
    if isinstance(divisor, Tensor):
        dtype = computed_in(x)
        scale = torch.tensor(factor, dtype=dtype) / divisor.to(x.device, dtype)
    else:
        scale = factor / divisor
    statistics = loss.keeps_gradient_statistics(batch)
    if _only_x_is_trained(loss, batch, scale):
        kernels = kernels_for(loss, batch)
        in_blocks = x.device.type == 'cpu' and (x.numel() > BLOCK or statistics)
        if len(x) > 1 and (kernels is not None or in_blocks):
            if not isinstance(scale, Tensor):
                scale = x.new_full((), scale, dtype=computed_in(x))
            return ValueAndGradient.apply(x, loss, batch, scale, statistics, kernels)
    if statistics:
        gradient = gradient_of(
            lambda x: loss.entries(batch._replace(x=x), ANY_ORDER).sum() * scale, x
        )
        loss.update_gradient_statistics(loss.gradient_statistics(batch, gradient))
    return loss.entries(batch, ANY_ORDER).sum() * scale


def _only_x_is_trained(loss: Summable, batch: Batch, scale: float | Tensor) -> bool:
    """Whether the gradient by the predictions, and no other derivative, is asked for."""
    x = batch.x
    others = (scale, batch.weight, *loss.parameters())
    return (
        x.requires_grad
        and x.device.type != 'meta'
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)
        and unpack_dual(x).tangent is None
        and not any(isinstance(other, Tensor) and other.requires_grad for other in others)
        and not torch._C._are_functorch_transforms_active()
        # Checkpoints and offloading see what the plain formula saves; the pass saves nothing.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )
