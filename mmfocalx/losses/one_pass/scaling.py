"""The factor from upstream, which is 1 in most trainings: then no memory is touched."""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

PROGRAMS = 2048
BLOCK = 4096


def scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """``factor`` times a gradient, in place where it has the type that is asked for.

    Args:
        gradient: dense, in any order of its dimensions.
        factor: 0-d.
        dtype: type of the result.
    """
    if gradient.dtype != dtype:
        return torch.mul(gradient, factor, out=torch.empty_like(gradient, dtype=dtype))
    if gradient.device.type == 'cpu':
        return gradient if factor == 1 else gradient.mul_(factor)
    if triton is None or gradient.device.type != 'cuda':
        return gradient.mul_(factor)
    with torch.cuda.device(gradient.device):
        programs = min(triton.cdiv(gradient.numel(), BLOCK), PROGRAMS)
        scale_unless_one[programs,](gradient, factor, gradient.numel(), BLOCK=BLOCK)
    return gradient


if triton is not None:

    @triton.jit
    def scale_unless_one(gradient, factor, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: N803
        """Multiply ``size`` elements by a factor that only the device knows."""
        by = tl.load(factor)
        if by != 1:
            step = tl.num_programs(0).to(tl.int64) * BLOCK
            for start in range(tl.program_id(0).to(tl.int64) * BLOCK, size, step):
                offsets = start + tl.arange(0, BLOCK)
                value = tl.load(gradient + offsets, mask=offsets < size)
                tl.store(gradient + offsets, value * by, mask=offsets < size)
