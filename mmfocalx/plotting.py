"""The look of every plot of this project: colours, markers and axes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C6D31')
"""Okabe and Ito's, distinct for colour-blind readers too."""
MARKERS = 'osD^vPX*'
SYMBOLS = '●■◆▲▼✚✖★'
"""The markers as text."""
GREY, AXIS_GREY, GRID_GREY = '#4a525c', '#8a929c', '#e3e6ea'
STYLE: dict[Any, Any] = {
    'font.size': 9, 'font.family': 'sans-serif', 'svg.fonttype': 'none', 'svg.hashsalt': 'mmfocalx',
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True, 'axes.axisbelow': True,
    'grid.color': GRID_GREY, 'grid.linewidth': 0.7, 'axes.edgecolor': AXIS_GREY,
    'xtick.color': GREY, 'ytick.color': GREY, 'axes.labelcolor': '#30363d',
    'legend.frameon': False, 'legend.fontsize': 8.5, 'lines.linewidth': 1.6,
    'text.parse_math': False,
}  # fmt: skip
"""Settings for :func:`matplotlib.rc_context`."""


class LineStyle(NamedTuple):
    """What tells a line from the others, in print without colour too.

    Attributes:
        colour: As ``#rrggbb``.
        marker: For matplotlib.
        symbol: The marker as text.
    """

    colour: str
    marker: str | Path
    symbol: str


def line_styles(number: int) -> list[LineStyle]:
    """So many different styles; more than there are shapes have their numbers as markers."""
    if number <= len(MARKERS):
        return [LineStyle(*style) for style in zip(COLOURS, MARKERS, SYMBOLS, strict=True)][:number]
    return [
        LineStyle(COLOURS[k % len(COLOURS)], _number_marker(k + 1), str(k + 1))
        for k in range(number)
    ]


def _number_marker(number: int) -> Path:
    outline = TextPath((0, 0), str(number), size=1)
    box = outline.get_extents()
    middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return Path(outline.vertices - middle, outline.codes)


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most ``width`` characters, broken after a hyphen, underscore or space."""
    lines = ['']
    for part in re.findall(rf'[^-_ ]{{1,{width}}}[-_ ]?|[-_ ]', text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append('')
        lines[-1] += part
    return '\n'.join(line.rstrip() for line in lines)


def log_scale(axes: Axes) -> None:
    """Make y logarithmic, labelled with decimal numbers, as many as there is room for."""
    axes.set_yscale('log')
    low, high = axes.get_ylim()
    steps = (1.0,) if high / low > 30 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
