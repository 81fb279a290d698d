"""The pass over the logits, eager: through blocks of rows small enough for a CPU's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..batch import Batch
from ..precision import computed_in, gradient_type
from .elementary import ANY_ORDER
from .summable import Summable

BLOCK = 2**18
"""Entries of one block."""


def blockwise(loss: Summable, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient, block by block; off the CPU in one."""
    x = batch.x
    if x.numel() <= BLOCK or x.device.type != 'cpu':
        return _of_a_block(loss, batch, scale)
    gradient = torch.empty_like(x, dtype=gradient_type(x), memory_format=torch.contiguous_format)
    sums = []
    for rows in row_blocks(x):
        total, gradient[rows] = _of_a_block(loss, batch.rows(rows), scale)
        sums.append(total)
    return torch.stack(sums).sum(), gradient


def _of_a_block(loss: Summable, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = batch.x.detach().to(computed_in(batch.x)).requires_grad_()
        total = loss.entries(batch._replace(x=x), ANY_ORDER).sum() * scale
    return total.detach(), torch.autograd.grad(total, x)[0]


def row_blocks(x: Tensor, at_most: int | None = None) -> Iterator[slice]:
    """The rows of (N, C) by as many as fit a cache, or ``at_most`` if that is less."""
    rows = max(1, BLOCK // x.shape[1])
    rows = rows if at_most is None else min(rows, at_most)
    return (slice(start, start + rows) for start in range(0, x.shape[0], rows))
