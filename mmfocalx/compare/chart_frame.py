"""What the charts of a comparison share. The page has one key for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmfocalx.compare.comparison import Group, Variant
from mmfocalx.plotting import LineStyle, line_styles


def styled(group: Group) -> list[tuple[Variant, LineStyle]]:
    """The finished configs with their styles."""
    styles = line_styles(len(group.variants))
    pairs = zip(group.variants, styles, strict=True)
    return [(variant, style) for variant, style in pairs if variant.evaluations]


def offset(index: int, number: int) -> float:
    """Where, within its row, a config is drawn."""
    return 0.7 * ((index + 0.5) / number - 0.5)


def row_height(group: Group) -> float:
    """Inches of a row that all configs share."""
    return max(0.26, 0.085 * len(group.finished))


def pooled(variant: Variant) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and IoUs at IoU 0.5 of all classes and seeds."""
    pairs = [found.at(0) for e in variant.evaluations for found in e.matches.values()]
    return np.concatenate([s for s, _ in pairs]), np.concatenate([i for _, i in pairs])
