"""What the charts of a report share: size, legend, lines and rows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmfocalx.compare.comparison import Group, Variant
from mmfocalx.plotting import GRID_GREY, STYLE, LineStyle, line_styles

WIDTH = 4.6
_LEGEND_WIDTH = 34


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


def legend_columns(group: Group) -> int:
    """As many as there is room for."""
    longest = max(len(variant.label) for variant in group.finished)
    return 2 if longest <= _LEGEND_WIDTH - 2 and len(group.finished) > 1 else 1


def legend_height(group: Group) -> float:
    """Inches that the legend takes beyond two lines."""
    lines = math.ceil(len(group.finished) / legend_columns(group))
    return 0.17 * max(0, lines - 2)


def legend(axes: Axes, group: Group) -> None:
    """A legend above the axes."""
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1.01), ncols=legend_columns(group),
                borderaxespad=0, handlelength=1.6, columnspacing=1.2)  # fmt: skip


def line(
    axes: Axes, x: NDArray[Any], y: NDArray[Any], style: LineStyle, label: str,
    spacing: int = 1, start: int = 0,
) -> None:  # fmt: skip
    """A line with markers, at every ``spacing``-th point."""
    axes.plot(x, y, color=style.colour, marker=style.marker, markersize=5, label=label,
              markevery=(start % max(1, min(spacing, len(x) or 1)), spacing))  # fmt: skip


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
