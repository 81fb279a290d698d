"""Value and gradient of a reduced loss in one pass over the logits.

On a CPU the pass keeps nothing but the gradient, of the size of the logits: compiled, it is one
loop that reads each logit once; eager, it works through blocks of rows small enough for a cache. On
an accelerator the value is one compiled kernel and the gradient, with the factor from upstream,
another. Where nothing is compiled there, and everywhere where other derivatives are asked for, the
formula runs as it stands. All of them run the loss's own ``entries``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from ..batch import Batch
from ..precision import computed_in
from .autograd import Pass, ValueAndGradient, ValueThenGradient, gradient_of
from .blocks import BLOCK, blockwise
from .compiled import Kernels, kernels_for
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
    scale: float | Tensor = factor / divisor
    if isinstance(divisor, Tensor):
        scale = factor / divisor.to(x.device, computed_in(x))
    statistics = loss.keeps_gradient_statistics(batch)
    way = _way(loss, batch, statistics)
    if way is not None and _only_x_is_trained(loss, batch, scale):
        if not isinstance(scale, Tensor):
            scale = x.new_full((), scale, dtype=computed_in(x))
        if isinstance(way, Kernels):
            return ValueThenGradient.apply(x, loss, batch, scale, statistics, way)
        return ValueAndGradient.apply(x, loss, batch, scale, statistics, way)
    if statistics:
        gradient = gradient_of(
            lambda x: loss.entries(batch._replace(x=x), ANY_ORDER).sum() * scale, x
        )
        loss.update_gradient_statistics(loss.gradient_statistics(batch, gradient))
    return loss.entries(batch, ANY_ORDER).sum() * scale


def _way(loss: Summable, batch: Batch, statistics: bool) -> Pass | Kernels | None:
    """How the loss is computed where its first derivative is all that is asked for.

    Kernels are for :class:`ValueThenGradient`, a pass is for :class:`ValueAndGradient`, and None is
    the formula as it stands.
    """
    x = batch.x
    if x.shape[0] < 2 or x.device.type == 'meta':
        return None
    kernels = kernels_for(loss, batch)
    if x.device.type != 'cpu':
        return kernels
    if kernels is not None:
        return kernels.value_and_gradient
    return blockwise if x.numel() > BLOCK or statistics else None


def _only_x_is_trained(loss: Summable, batch: Batch, scale: float | Tensor) -> bool:
    """Whether the gradient by the predictions, and no other derivative, is asked for."""
    x = batch.x
    others = (scale, batch.weight, *loss.parameters())
    return (
        x.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)
        and unpack_dual(x).tangent is None
        and not any(isinstance(other, Tensor) and other.requires_grad for other in others)
        and not torch._C._are_functorch_transforms_active()
        # Checkpoints and offloading see what the plain formula saves; the pass saves nothing.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )
