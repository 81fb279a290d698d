"""The charts of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.cases import Case, main_losses
from benchmark.records import Record
from benchmark.steps import EAGER, FLOOR, OURS, PARTS
from mmfocalx.plotting import COLOURS, GREY, MARKERS, STYLE, log_scale

Lines = Mapping[str, Sequence[tuple[int, float]]]
DPI = 110


def draw_charts(times: Sequence[Record], memory: Sequence[Record], folder: Path) -> None:
    """Draw the time and memory of a focal loss step, and the time of every loss of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    loss = main_losses()[0]
    time, peak = _times(times, loss), _peaks(memory, loss)
    ours = {
        loss: lines[OURS]
        for loss in dict.fromkeys(record['loss'] for record in times)
        if OURS in (lines := _times(times, loss))
    }
    if FLOOR in time:
        ours[FLOOR] = time[FLOOR]
    charts = {
        'time.png': (time, 'ms'),
        'memory.png': (peak, 'multiples of the logits'),
        'losses.png': (ours, 'ms'),
    }
    for name, (lines, unit) in charts.items():
        if lines:
            _save(folder / name, partial(_plot, lines=lines, unit=unit))


def _times(records: Sequence[Record], loss: str) -> dict[str, list[tuple[int, float]]]:
    return _lines(
        records,
        loss,
        lambda record: {
            name: step['median_ms']
            for name, step in record['steps'].items()
            if 'median_ms' in step and name not in PARTS
        },
    )


def _peaks(records: Sequence[Record], loss: str) -> dict[str, list[tuple[int, float]]]:
    return _lines(
        records,
        loss,
        lambda record: {
            name: peak / record['logits_bytes']
            for name, peak in record['peak_bytes'].items()
            if peak  # a log scale has no 0
        },
    )


def _lines(
    records: Sequence[Record], loss: str, values: Callable[[Record], dict[str, float]]
) -> dict[str, list[tuple[int, float]]]:
    """Points of each step with hard labels in single precision, by N x C."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record['loss'] == loss and Case.of_record(record).is_plain:
            for name, value in values(record).items():
                lines.setdefault(name, []).append((record['rows'] * record['classes'], value))
    return {name: sorted(points) for name, points in lines.items()}


def _plot(axes: Axes, lines: Lines, unit: str) -> None:
    for k, (name, points) in enumerate(lines.items()):
        style: dict[str, Any] = {
            'color': COLOURS[k % len(COLOURS)],
            'marker': MARKERS[k % len(MARKERS)],
            'markersize': 4,
            'linestyle': '-' if k < len(COLOURS) else (0, (4, 1.5)),
        }
        if name == FLOOR:
            style |= {'color': GREY, 'marker': None, 'linestyle': (0, (1, 1))}
        elif name == OURS:
            style |= {'linewidth': 2.6}
        elif name == EAGER:
            style |= {'linestyle': (0, (4, 1.5))}
        axes.plot(*zip(*points, strict=True), label=name, **style)
    log_scale(axes, 'x')
    log_scale(axes)
    axes.set_xlabel('N x C')
    axes.set_ylabel(unit)
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5))


def _save(target: Path, plot: Callable[[Axes], None]) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.2), layout='constrained')
        plot(figure.subplots())
        figure.savefig(target, dpi=DPI, metadata={'Software': None})
