"""The table of the losses in README, between two marks."""

from __future__ import annotations

import re
from pathlib import Path

from facts import idea, own_arguments, sources
from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.catalogue import losses
from mmfocalx.losses.reduction import ReducedLoss

README = Path(__file__).resolve().parents[2] / 'README.md'
BEGIN, END = '<!-- table of losses: written by make docs -->', '<!-- end of the table of losses -->'


def loss_table() -> str:
    """Every loss, those of classification first, each kind in the order of their papers."""
    lines = [
        '| type | idea | own arguments | quality | source |',
        '|---|---|---|---|---|',
    ]
    return '\n'.join([*lines, *map(_row, sorted(losses().values(), key=_place))])


def with_table(text: str) -> str:
    """A page with the table between its marks.

    Raises:
        ValueError: if the marks are not there, each once and in their order.
    """
    between = re.compile(f'{re.escape(BEGIN)}\n.*?{re.escape(END)}', re.DOTALL)
    if not (text.count(BEGIN) == text.count(END) == len(between.findall(text)) == 1):
        raise ValueError(f'Expected one {BEGIN!r} with one {END!r} behind it, but they are not')
    return between.sub(lambda _: f'{BEGIN}\n{loss_table()}\n{END}', text)


def _place(loss: type[ReducedLoss]) -> tuple[bool, str]:
    return not issubclass(loss, DenseClsLoss), sources(loss)[-1].year


def _row(loss: type[ReducedLoss]) -> str:
    aware = issubclass(loss, DenseClsLoss) and loss.quality_aware
    papers = ', '.join(f'[{s.author} {s.year}]({s.url})' for s in sources(loss))
    arguments = ', '.join(f'`{name}`' for name in own_arguments(loss))
    cells = [f'`{loss.__name__}`', idea(loss).removesuffix('.'), arguments, '✓' * aware, papers]
    return f'| {" | ".join(cells)} |'
