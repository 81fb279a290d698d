"""How large the objects of each class are, beside the anchors of a head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from numpy.typing import NDArray

from mmfocalx.reporting.wording import listed, number

PERCENTILES = (5, 50, 95)
SMALL, MEDIUM = 32**2, 96**2
"""Areas of COCO's size classes."""


class AnchorRange(NamedTuple):
    """Square roots of the areas of the smallest and the largest anchor."""

    smallest: float
    largest: float


class ClassSizes(NamedTuple):
    """How large the objects of a class are: square roots of the areas of their boxes.

    Attributes:
        name: Of the class.
        percentiles: Of the sizes, at :data:`PERCENTILES`; NaN without objects.
        below: Share of the objects that are smaller than the smallest anchor; NaN without anchors.
        above: Share of those that are larger than the largest one.
    """

    name: str
    percentiles: tuple[float, ...]
    below: float
    above: float

    def as_json(self) -> dict[str, Any]:
        """Its numbers, None for NaN."""
        return {
            'name': self.name,
            'percentiles': {
                str(at): _finite(value)
                for at, value in zip(PERCENTILES, self.percentiles, strict=True)
            },
            'below_anchors': _finite(self.below),
            'above_anchors': _finite(self.above),
        }


def anchor_range(head: Any) -> AnchorRange | None:
    """The anchors of a head that matches them to objects by IoU; None for another head."""
    anchors = getattr(head.prior_generator, 'base_anchors', None)
    if anchors is None or not isinstance(getattr(head, 'assigner', None), MaxIoUAssigner):
        return None
    sizes = np.concatenate([level.numpy()[:, 2:] - level.numpy()[:, :2] for level in anchors])
    sides = np.sqrt(sizes.astype(np.float64).prod(axis=1))
    return AnchorRange(float(sides.min()), float(sides.max()))


def sizes_of_classes(
    names: Sequence[str],
    sizes: NDArray[np.float64],
    labels: NDArray[np.int64],
    anchors: AnchorRange | None,
) -> list[ClassSizes]:
    """The sizes of each class.

    Args:
        names: (C,) names of the classes.
        sizes: (G,) square roots of the areas of boxes.
        labels: (G,) their classes.
        anchors: In the same pixels.
    """
    rows = []
    for label, name in enumerate(names):
        own = sizes[labels == label]
        percentiles, below, above = [math.nan] * len(PERCENTILES), math.nan, math.nan
        if own.size:
            percentiles = np.percentile(own, PERCENTILES).tolist()
            if anchors:
                below = float((own < anchors.smallest).mean())
                above = float((own > anchors.largest).mean())
        rows.append(ClassSizes(name, tuple(percentiles), below, above))
    return rows


def size_caption(scale: str, anchors: AnchorRange | None) -> str:
    """How to read :func:`size_table`, for sizes that are measured at ``scale``."""
    shares = f'{listed([str(at) for at in PERCENTILES])} %'
    text = (
        f'Square root of the area of a box, pixels {scale}. {shares} of the objects of a class are '
        'no larger than this.'
    )
    if anchors:
        text += f' Anchors: {number(anchors.smallest)} to {number(anchors.largest)} pixels.'
    return text


def size_table(
    rows: Sequence[ClassSizes], anchors: AnchorRange | None
) -> tuple[list[str], list[list[str]]]:
    """Head and cells of a table of the sizes, and of the shares beyond the anchors."""
    head = ['class', *(f'{at} %' for at in PERCENTILES)]
    cells = [[one.name, *map(number, one.percentiles)] for one in rows]
    if anchors:
        head += ['below the smallest anchor, %', 'above the largest anchor, %']
        for line, one in zip(cells, rows, strict=True):
            line += [number(100 * one.below), number(100 * one.above)]
    return head, cells


def notes_on_anchors(rows: Sequence[ClassSizes], anchors: AnchorRange | None) -> list[str]:
    """Which classes most objects of are smaller than every anchor, or larger, in sentences."""
    if anchors is None:
        return []
    notes = []
    medians = {one.name: one.percentiles[PERCENTILES.index(50)] for one in rows}
    for shares, comparison, side, hardest, advice in (
        ({one.name: one.below for one in rows}, 'smaller than the smallest', anchors.smallest,
         min, 'Smaller anchors or a larger scale of training'),
        ({one.name: one.above for one in rows}, 'larger than the largest', anchors.largest,
         max, 'Larger anchors or a smaller scale of training'),
    ):  # fmt: skip
        most = [f'{name} ({100 * share:.0f} %)' for name, share in shares.items() if share > 0.5]
        if most:
            middles = (medians[name] for name, share in shares.items() if share > 0.5)
            factor = _beyond(side, hardest(middles))
            notes.append(
                f'Most objects of {listed(most)} are {comparison} anchor, {side:.0f} pixels at the '
                f'scale of training (square root of the area). {advice} would match them better'
                f'{factor and f": at {factor} times the scale no more than half of a class are"}.'
            )
    return notes


def _beyond(side: float, median: float) -> str:
    """The factor that brings a median to a side, rounded away from 1; '' where none does."""
    if not median:
        return ''
    factor = side / median
    return f'{math.ceil(10 * factor) / 10 if factor > 1 else math.floor(100 * factor) / 100:g}'


def coco_size_shares(sizes: NDArray[np.float64]) -> dict[str, float]:
    """Shares of COCO's size classes among (G,) square roots of areas."""
    areas = sizes**2
    count = max(1, len(areas))
    return {
        'small': float((areas < SMALL).sum() / count),
        'medium': float(((areas >= SMALL) & (areas < MEDIUM)).sum() / count),
        'large': float((areas >= MEDIUM).sum() / count),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
