"""What the charts of a report share: size, lines and rows. The page has one key for all."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from mmfocalx.compare.comparison import Group, Variant
from mmfocalx.plotting import GRID_GREY, STYLE, LineStyle, line_styles

WIDTH = 4.6


def draw(plot: Callable[[Figure], None], height: float = 3.1) -> str:
    """A data URI of the SVG drawn by ``plot``."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout='constrained')
        plot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()


def styled(group: Group) -> list[tuple[Variant, LineStyle]]:
    """The finished configs with their styles."""
    styles = line_styles(len(group.variants))
    pairs = zip(group.variants, styles, strict=True)
    return [(variant, style) for variant, style in pairs if variant.evaluations]


def line(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    style: LineStyle,
    spacing: int = 1,
    start: int = 0,
) -> None:
    """A line with markers, at every ``spacing``-th point."""
    x, y = np.asarray(x), np.asarray(y)
    axes.plot(x, y, color=style.colour)
    first = start % spacing if start % spacing < len(x) else 0
    style.mark(axes, x[first::spacing], y[first::spacing])


def rows(axes: Axes, labels: list[str]) -> None:
    """Name the rows of a chart, the first on top."""
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis='y', visible=False)
    for k in range(1, len(labels)):
        axes.axhline(k - 0.5, color=GRID_GREY, linewidth=0.7)


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
