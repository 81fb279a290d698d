"""Sums of ramps over many numbers, in time linear in the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .one_pass.blocks import row_blocks

PIECES = 16
"""Parts that an accelerator works through one by one; each needs some memory of its own."""
CELLS_PER_RAMP = 64
MOST_CELLS = 2**18
ALL_OF_16_BITS = 2**16


class Ramps:
    r"""P functions of a number b that rise from 0 to 1: :math:`\mathrm{clip}((b - s_i)/w, 0, 1)`.

    The ends of the ramps cut the line into 2P + 1 bins. Within a bin every ramp is linear, so that
    the count and the sum of the numbers of each bin say the sum of a ramp over all numbers, and
    two coefficients for each bin say the sum of all ramps at a number. Neither needs P values for
    a number. Counts, sums and coefficients are in float64; a number's bin is exact.

    Args:
        starts: (P,) float64 starts s, P >= 1.
        width: w > 0.
        dtype: type of the numbers, float32 or float64.
    """

    def __init__(self, starts: Tensor, width: float, dtype: torch.dtype) -> None:
        self.width = width
        self.origin = starts.min()
        self._starts = starts - self.origin
        first, last = _rounded_up(starts, dtype), _rounded_up(starts + width, dtype)
        self._breaks = torch.cat([first, last]).sort().values
        self._first = torch.searchsorted(self._breaks, first, right=True)
        self._last = torch.searchsorted(self._breaks, last, right=True)

    def bins(self, x: Tensor) -> Tensor:
        """(N, C) int16: how many ends of ramps are no larger than each number of (N, C).

        Bin 0 is where every ramp is 0. The type is int32 where the ends are too many for int16.
        """
        short = len(self._breaks) <= torch.iinfo(torch.int16).max
        bins = torch.empty(x.shape, dtype=torch.int16 if short else torch.int32, device=x.device)
        search = self._search_for(x)
        for rows in pieces(x):
            bins[rows] = search(x[rows].reshape(-1)).view(-1, x.shape[1])
        return bins

    def over_numbers(self, x: Tensor, bins: Tensor) -> Tensor:
        """(P,) float64: the sum of each ramp over all numbers.

        Args:
            x: (N, C) numbers.
            bins: (N, C), theirs, or 0 for a number that does not count.
        """
        counts, sums = self._starts.new_zeros(2, len(self._breaks) + 1)
        for rows in pieces(x):
            values, of_piece = self._from_origin(x[rows]), bins[rows].reshape(-1).int()
            sums.index_add_(0, of_piece, values)
            counts.index_add_(0, of_piece, torch.ones_like(values))
        sums[-1] = 0  # All ramps are 1 there, and a huge number would drown the other sums.
        counts, sums = (part.flip(0).cumsum(0).flip(0) for part in (counts, sums))
        rising = counts[self._first] - counts[self._last]
        distance = sums[self._first] - sums[self._last] - rising * self._starts
        return (counts[self._last] + distance / self.width).clamp(min=0)

    def weighted_sum(self, weights: Tensor, x: Tensor, bins: Tensor, out: Tensor) -> None:
        """Write the weighted sum of all ramps at each number into ``out``.

        Args:
            weights: (P,) float64.
            x: (N, C) numbers.
            bins: (N, C), theirs; the sum is 0 where they are 0.
            out: (N, C).
        """
        slopes, offsets = weights.new_zeros(2, len(self._breaks) + 1)
        slope = weights / self.width
        slopes.index_add_(0, self._first, slope).index_add_(0, self._last, -slope)
        rise = slope * self._starts
        offsets.index_add_(0, self._first, -rise).index_add_(0, self._last, rise + weights)
        slopes, offsets = slopes.cumsum(0), offsets.cumsum(0)
        slopes[-1] = 0  # where rounding has left a little of it
        for rows in pieces(x):
            of_piece = bins[rows].reshape(-1).int()
            values = self._from_origin(x[rows]).mul_(slopes.index_select(0, of_piece))
            out[rows] = values.add_(offsets.index_select(0, of_piece)).view(-1, x.shape[1])

    def _from_origin(self, x: Tensor) -> Tensor:
        return x.reshape(-1).to(torch.float64) - self.origin

    def _search_for(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The fastest search for numbers such as x."""
        if x.device.type == 'cpu' and x.element_size() == 2 and x.numel() > ALL_OF_16_BITS:
            return _Table(self._search, x.dtype)
        cells = min(CELLS_PER_RAMP * len(self._starts), MOST_CELLS)
        if x.device.type == 'cpu' and x.numel() > cells:
            return _Cells(self._search, self._breaks, cells)
        return self._search

    def _search(self, values: Tensor) -> Tensor:
        values = values.to(self._breaks.dtype)
        return torch.bucketize(values, self._breaks, out_int32=True, right=True)


class _Table:
    """A search for each number that 16 bits can hold, and no other."""

    def __init__(self, search: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        patterns = torch.arange(ALL_OF_16_BITS).sub_(ALL_OF_16_BITS // 2).to(torch.int16)
        self._bins = search(patterns.view(dtype))

    def __call__(self, values: Tensor) -> Tensor:
        return self._bins.index_select(0, values.view(torch.int16).int() + ALL_OF_16_BITS // 2)


class _Cells:
    """The same search through a table of equal cells, several times faster on a CPU.

    The cell of a number never falls as the number grows. So all numbers of a cell without a break
    have one bin, whatever the rounding; only those of the few other cells are searched for.
    """

    def __init__(self, search: Callable[[Tensor], Tensor], breaks: Tensor, cells: int) -> None:
        self._search = search
        self._last = cells + 3
        extent = (breaks[-1] - breaks[0]).clamp(min=1e-20)
        self._scale = cells / extent
        self._offset = 2 - breaks[0] * self._scale
        counts = torch.bincount(self._cells(breaks), minlength=self._last + 1)
        self._bins = (counts.cumsum(0) - counts).int().masked_fill_(counts > 0, -1)

    def __call__(self, values: Tensor) -> Tensor:
        bins = self._bins.index_select(0, self._cells(values))
        unknown = (bins < 0).nonzero()[:, 0]
        bins[unknown] = self._search(values[unknown])
        return bins

    def _cells(self, values: Tensor) -> Tensor:
        cells = (
            (values.to(self._scale.dtype) * self._scale).add_(self._offset).clamp_(0, self._last)
        )
        return cells.int().clamp_(min=0)  # which NaN needs


def pieces(x: Tensor) -> Iterator[slice]:
    """The rows of (N, C) by as many as are worked on at once."""
    if x.device.type == 'cpu':
        return row_blocks(x)
    rows = max(1, -(-len(x) // PIECES))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _rounded_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest numbers of a type that are no smaller: any of its numbers compares alike."""
    near = values.to(dtype)
    above = torch.nextafter(near, torch.full_like(near, torch.inf))
    return torch.where(near.to(values.dtype) < values, above, near)
