"""Sums of absolute gradients over the predictions, class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..precision import computed_in
from .blocks import row_blocks

SUMMED_AT_ONCE = 2**12
"""Rows that one product adds up; it is fast, and its rounding grows with them."""


def class_sums(gradient: Tensor, batch: Batch) -> Tensor:
    """(2, C) sums of the absolute gradients of positives and of negatives.

    Args:
        gradient: (N, C) gradient by the predictions.
        batch: their targets; a positive is an entry whose target score is above 0.
    """
    on_cpu = gradient.device.type == 'cpu' and not torch.compiler.is_compiling()
    if on_cpu and batch.labels is not None and len(gradient) > SUMMED_AT_ONCE:
        return _by_products(gradient, batch)
    sizes = gradient.to(computed_in(gradient)).abs()
    positive = batch.target.positive
    return torch.stack(
        [torch.where(positive, sizes, 0).sum(dim=0), torch.where(positive, 0, sizes).sum(dim=0)]
    )


def _by_products(gradient: Tensor, batch: Batch) -> Tensor:
    """Of labels, on a CPU: the many rows without a positive as products, the others apart."""
    dtype, num_classes = computed_in(gradient), batch.num_classes
    positive, negative = gradient.new_zeros(2, num_classes, dtype=dtype)
    labels = batch.labels
    is_positive = batch.positive_quality() > 0
    others = (~is_positive).to(dtype)
    parts = list(row_blocks(gradient, at_most=SUMMED_AT_ONCE))
    room = torch.empty_like(gradient[parts[0]])
    sums = [negative]
    for rows in parts:
        part = gradient[rows]
        sizes = torch.abs(part, out=room[: len(part)]).to(dtype)
        # Unlike a product, addmv_ keeps its precision within autocast.
        sums.append(torch.zeros_like(negative).addmv_(sizes.T, others[rows]))
    for few in is_positive.nonzero()[:, 0].split(max(1, len(room))):
        sizes, own = gradient[few].abs().to(dtype), labels[few][:, None]  # type: ignore[index]
        positive.index_add_(0, own[:, 0], sizes.gather(1, own)[:, 0])
        sums.append(sizes.scatter_(1, own, 0).sum(dim=0))
    return torch.stack([positive, torch.stack(sums).sum(dim=0)])
