"""What the tools say while they work: a bar on a terminal, and lines."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from tqdm import tqdm  # type: ignore[import-untyped]

_BAR = '{percentage:3.0f}%|{bar}|{postfix} [{elapsed}, about {remaining} left]'


def write_line_by_line() -> None:
    """Show each line when it is there, also in a log that is watched, whatever the locale lacks."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors='replace', line_buffering=True)


def progress_bar(total: int, done: int) -> tqdm:
    """A bar on a terminal, and nothing elsewhere.

    Args:
        total: Number of what is to be done.
        done: Number of what was done before.
    """
    return tqdm(total=total, initial=done, disable=None, smoothing=0, bar_format=_BAR)
