"""What the time of our pass is made of: a line over N x C, and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmark.cases import KEY_SIZES, loss_names
from benchmark.records import Record, plain, short, size_of
from benchmark.steps import COPY, FLOOR, FLOOR_NEW_MEMORY, OURS
from mmfocalx.reporting.wording import table


def fit(entries: Sequence[int], milliseconds: Sequence[float]) -> tuple[float, float, float]:
    """Constant (ms), slope (ms per million entries) and largest relative residual.

    The squares of the relative residuals are least, so that no size outweighs the others.
    """
    x, y = np.asarray(entries) / 1e6, np.asarray(milliseconds)
    design = np.stack([np.ones_like(x), x], axis=1)
    constant, slope = np.linalg.lstsq(design / y[:, None], np.ones_like(y), rcond=None)[0]
    residual = np.abs((constant + slope * x) / y - 1).max()
    return float(constant), float(slope), float(residual)


class Line(NamedTuple):
    """Time of a loss over the number of entries, and what it was fitted to."""

    constant: float
    slope: float
    residual: float
    entries: list[int]


def _lines(times: Sequence[Record]) -> dict[str, Line]:
    """Of each loss that was measured at three or more N x C."""
    lines = {}
    for loss in loss_names():
        of_loss = [record for record in plain(times) if record['loss'] == loss]
        entries = [record['rows'] * record['classes'] for record in of_loss]
        if len(set(entries)) < 3:
            continue
        medians = [record['steps'][OURS]['median_ms'] for record in of_loss]
        lines[loss] = Line(*fit(entries, medians), entries)
    return lines


def linear(times: Sequence[Record]) -> list[str]:
    """The section on how the time grows with N x C."""
    rows = [
        [loss, str(len(line.entries)), f'{min(line.entries):,} to {max(line.entries):,}',
         f'{line.constant:.2f}', f'{line.slope:.2f}', f'{100 * line.residual:.0f} %']
        for loss, line in _lines(times).items()
    ]  # fmt: skip
    if not rows:
        return []
    head = ['loss', 'sizes', 'N x C', 'constant, ms', 'ms per million', 'largest residual']
    return ['## Time of our pass as a linear function of N x C', table(head, rows)]


def parts_of_time(times: Sequence[Record]) -> list[str]:
    """The section on what the pass takes longer than the floor, and for what."""
    lines = _lines(times)
    rows = []
    for record in plain(times):
        if (record['rows'], record['classes']) not in KEY_SIZES:
            continue
        steps = record['steps']
        ours, floor, new_memory, copy = (
            steps[name]['median_ms'] for name in (OURS, FLOOR, FLOOR_NEW_MEMORY, COPY)
        )
        line = lines.get(record['loss'])
        launch = 0.0 if line is None else max(0.0, line.constant)
        mapping = max(0.0, new_memory - floor)
        rows.append([
            record['loss'], size_of(record), short(ours), short(floor), f'{ours / floor:.1f}',
            '-' if line is None else short(launch),
            *(short(part) for part in (copy, mapping, ours - launch - copy - mapping)),
            f'{steps[OURS]["page_faults"]:,}' if 'page_faults' in steps[OURS] else '-',
        ])  # fmt: skip
    if not rows:
        return []
    head = ['loss', 'size', 'ours, ms', 'floor, ms', 'ours / floor', 'launch', 'memory traffic',
            'new memory', 'arithmetic', 'page faults']  # fmt: skip
    text = (
        'Where our time goes, in ms: launch is the constant of the line above, part of the rest '
        'where there is no line; memory traffic is '
        'a copy of the logits into memory in use, as much read and written; new memory is what '
        'the floor takes longer when it allocates what it writes, as we do the gradient; '
        'arithmetic is the rest.'
    )
    return ['## Distance to the floor', text, table(head, rows)]
