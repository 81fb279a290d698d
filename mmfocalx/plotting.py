"""The look of every plot of this project: colours, markers and axes."""

from __future__ import annotations

import math
import re
from string import ascii_letters, ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from mmfocalx.errors import check_integer

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

    def mark(self, axes: Axes, x: ArrayLike, y: ArrayLike, size: float = 6) -> None:
        """Draw the markers of points; letters on white, so that lines leave them legible."""
        if isinstance(self.marker, Path):
            axes.plot(x, y, linestyle='', marker='o', markersize=1.15 * size, color='white')
        axes.plot(x, y, linestyle='', marker=self.marker, markersize=size, color=self.colour,
                  markeredgewidth=0)  # fmt: skip


def line_styles(number: int) -> list[LineStyle]:
    """So many different styles; the markers are letters where there are too few shapes.

    Raises:
        ValueError: If there are too few letters, too.
    """
    if number <= len(MARKERS):
        return [LineStyle(*style) for style in zip(COLOURS, MARKERS, SYMBOLS, strict=True)][:number]
    check_integer('number', number, low=0, high=len(ascii_letters))
    letters = (ascii_uppercase + ascii_lowercase)[:number]
    return [
        LineStyle(COLOURS[k % len(COLOURS)], _letter_marker(letter), letter)
        for k, letter in enumerate(letters)
    ]


def _letter_marker(letter: str) -> Path:
    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(weight='bold'))
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


def log_scale(axes: Axes, along: str = 'y') -> None:
    """Make x or y logarithmic, labelled with decimal numbers, as many as there is room for."""
    axes.set(**{f'{along}scale': 'log'})
    axis = axes.xaxis if along == 'x' else axes.yaxis
    axis.set_major_locator(_Decades(axis))
    axis.set_major_formatter(FuncFormatter(_decimal))
    axis.set_minor_formatter(NullFormatter())


class _Decades(LogLocator):
    """Powers of ten, with 2 and 5 times them where three a decade fit; asked when drawn."""

    def __init__(self, axis: Axis) -> None:
        super().__init__()
        self._room_of = axis

    def tick_values(self, vmin: float, vmax: float) -> Any:
        room = self._room_of.get_tick_space()
        fitting = vmin > 0 and 5 * math.log10(vmax / vmin) <= room  # with air between them
        steps = (1.0, 2.0, 5.0) if fitting else (1.0,)
        self.set_params(subs=steps, numticks=max(3, 2 * room // 3))
        return super().tick_values(vmin, vmax)


def _decimal(value: float, _: object) -> str:
    return f'{value / 1e6:g} million' if value >= 1e6 else f'{value:g}'
