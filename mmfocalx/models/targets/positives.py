from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positives:
    """The positive predictions of a batch, without a count that the host would wait for.

    What is wanted of the positives alone is computed for the rows at hand: on the CPU the
    positives, elsewhere all N rows, of which the mask tells the positives.

    Attributes:
        mask: (N,) bool, which predictions are positive.
        rows: index of the R rows at hand.
        at_hand: (R,) bool, which of them are positive.
    """

    mask: Tensor
    rows: Tensor | slice
    at_hand: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Positives:
        """The positives of a batch, given the (N,) mask."""
        if mask.device.type == 'cpu':
            rows = mask.nonzero().squeeze(1)
            return cls(mask, rows, mask.new_ones(len(rows)))
        return cls(mask, slice(None), mask)

    @property
    def count(self) -> Tensor:
        """How many there are, a 0-d float tensor."""
        return self.mask.sum(dtype=torch.float)

    @property
    def weight(self) -> Tensor:
        """(R,) float, 1 for a positive, else 0."""
        return self.at_hand.float()

    def only(self, values: Tensor, fill: float) -> Tensor:
        """(R, ...) values, with ``fill`` in place of those of the rows that are not positive."""
        if isinstance(self.rows, Tensor):
            return values
        return torch.where(self.at_hand.view(-1, *[1] * (values.ndim - 1)), values, fill)

    def spread(self, values: Tensor) -> Tensor:
        """(N, ...) values that are 0 where no positive is, given those of the rows at hand."""
        if not isinstance(self.rows, Tensor):
            return self.only(values, 0)
        spread = values.new_zeros(len(self.mask), *values.shape[1:])
        spread[self.rows] = values
        return spread
