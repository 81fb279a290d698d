"""What the charts of a page share: size, lines and rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mmfocalx.plotting import GRID_GREY, STYLE, LineStyle

WIDTH = 4.6


class Chart(NamedTuple):
    """A chart: its title, how to read it, and what draws it of a subject as a data URI."""

    title: str
    explanation: str
    draw: Callable[[Any], str]


def draw(plot: Callable[[Figure], None], height: float = 3.1) -> str:
    """A data URI of the SVG drawn by ``plot``."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout='constrained')
        plot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()


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


def score_limit(scores: ArrayLike) -> float:
    """Right end of an axis of scores: 1, or little more than the highest where all are low."""
    highest = float(np.max(scores, initial=0.0))
    return 1.05 * highest if 0 < highest < 0.5 else 1.0


def rows(axes: Axes, labels: list[str]) -> None:
    """Name the rows of a chart, the first on top."""
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis='y', visible=False)
    for k in range(1, len(labels)):
        axes.axhline(k - 0.5, color=GRID_GREY, linewidth=0.7)
