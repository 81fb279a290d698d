"""Numbers and tables as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MOST_NAMES = 5


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(
        '| ' + ' | '.join(cell.replace('|', '\\|').replace('\n', ' ') for cell in line) + ' |'
        for line in lines
    )


def number(value: float, digits: int = 1) -> str:
    """A rounded number, '–' for NaN and infinity; 0 has no sign."""
    return f'{round(value, digits) + 0.0:.{digits}f}' if math.isfinite(value) else '–'


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, '–' for NaN and infinity."""
    if not math.isfinite(value):
        return '–'
    return f'{round(value, digits) + 0.0:+.{digits}f}'.replace('-', '−')


def percent(share: float, digits: int = 1) -> str:
    """A share of 0 to 1 in percent, '–' for NaN and infinity."""
    return f'{number(100 * share, digits)} %'


def score(value: float) -> str:
    """A score to four digits that count, for some losses keep all scores near 0.01; '–' for NaN."""
    return f'{value:#.4g}' if math.isfinite(value) else '–'


def duration(seconds: float) -> str:
    """Minutes and seconds, '–' for NaN."""
    if not math.isfinite(seconds):
        return '–'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d} min'


def listed(names: Sequence[str]) -> str:
    """'a, b and c', the first few of many."""
    shown = list(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        shown.append(f'{len(names) - MOST_NAMES} more')
    if len(shown) < 2:
        return ''.join(shown)
    return f'{", ".join(shown[:-1])} and {shown[-1]}'
