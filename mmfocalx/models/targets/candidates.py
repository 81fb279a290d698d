"""Which of several objects a prior goes to that is a candidate of each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def first_of_best(
    slot: Tensor, value: Tensor, chosen: Tensor, slots: int, first_number: int
) -> tuple[Tensor, Tensor]:
    """The number of the object with the largest value at each slot; of equal ones the first.

    Args:
        slot: (G, n) which slot each candidate of each object is.
        value: (G, n), finite.
        chosen: (G, n) bool, False for a candidate that is none after all.
        slots: how many slots there are.
        first_number: of the objects, which count from there.

    Returns:
        (slots,) float numbers, and whether any object has the slot.
    """
    flat = slot.flatten()
    best = value.new_full((slots,), -math.inf)
    masked = torch.where(chosen, value, -math.inf).flatten()
    best = best.scatter_reduce(0, flat, masked, 'amax')
    number = torch.arange(len(slot), dtype=value.dtype, device=value.device) + first_number
    after_all = float(first_number + len(slot))
    number = torch.where(chosen & (value == best[slot]), number[:, None], after_all).flatten()
    first = torch.full_like(best, after_all).scatter_reduce(0, flat, number, 'amin')
    return first, first < after_all
