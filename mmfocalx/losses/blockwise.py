"""The pass over the logits, eager: through blocks of rows small enough for a CPU's cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .targets import CheckedTarget

if TYPE_CHECKING:
    from .base import DenseClsLoss

BLOCK = 2**18
"""Entries of one block."""


def blockwise(
    loss: DenseClsLoss, x: Tensor, checked: CheckedTarget, weight: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The whole pass, eager, block by block."""
    gradient = torch.empty_like(x, dtype=gradient_type(x), memory_format=torch.contiguous_format)
    sums = []
    for rows in blocks(x):
        block = x[rows].to(computed_in(x)).requires_grad_()
        with torch.enable_grad():
            part = loss.entries(block, checked.rows(rows), None if weight is None else weight[rows])
            part = part.sum() * scale
        gradient[rows] = torch.autograd.grad(part, block)[0]
        sums.append(part.detach())
    return torch.stack(sums).sum(), gradient


def blocks(x: Tensor, at_most: int | None = None) -> Iterator[slice]:
    """The rows of (N, C) by as many as fit a cache, or ``at_most`` if that is less."""
    rows = max(1, BLOCK // x.shape[1])
    rows = rows if at_most is None else min(rows, at_most)
    return (slice(start, start + rows) for start in range(0, x.shape[0], rows))


def computed_in(x: Tensor) -> torch.dtype:
    """The type of the arithmetic on predictions: float32 for half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def gradient_type(x: Tensor) -> torch.dtype:
    """float32 for float16, which could not hold it before a loss scaler's factor is applied."""
    return torch.float32 if x.dtype == torch.float16 else x.dtype
