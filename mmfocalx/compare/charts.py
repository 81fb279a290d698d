"""The charts of a report, as SVG in data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from mmfocalx.compare.curves import training_curves
from mmfocalx.compare.evaluation import TIDE_ERRORS
from mmfocalx.compare.groups import Entry, Group
from mmfocalx.compare.intervals import IOU_THRESHOLDS

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C6D31')
"""Okabe and Ito's, distinct for colour-blind readers too."""
MARKERS = 'osD^vPX*'
STYLE: dict[Any, Any] = {
    'font.size': 9, 'font.family': 'sans-serif', 'svg.fonttype': 'none', 'svg.hashsalt': 'mmfocalx',
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True, 'axes.axisbelow': True,
    'grid.color': '#e3e6ea', 'grid.linewidth': 0.7, 'axes.edgecolor': '#8a929c',
    'xtick.color': '#4a525c', 'ytick.color': '#4a525c', 'axes.labelcolor': '#30363d',
    'legend.frameon': False, 'legend.fontsize': 8.5, 'lines.linewidth': 1.6,
}  # fmt: skip
WIDTH = 4.6


def draw(plot: Callable[[Figure], None], height: float = 3.1) -> str:
    """A data URI of the SVG drawn by ``plot``."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout='constrained')
        plot(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()


def styled(entries: Sequence[Entry]) -> list[tuple[Entry, str, str]]:
    """Each entry with its colour and marker."""
    return [
        (entry, COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)])
        for k, entry in enumerate(entries)
    ]


def legend(axes: Axes) -> None:
    """A legend above the axes."""
    columns = 2 if len(axes.get_legend_handles_labels()[0]) > 1 else 1
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1.01), ncols=columns, borderaxespad=0,
                handlelength=1.6, columnspacing=1.2)  # fmt: skip


def plain_log_scale(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, as many as there is room for."""
    axes.set_yscale('log')
    low, high = axes.get_ylim()
    steps = (1.0,) if high / low > 30 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def difference_chart(group: Group) -> str:
    """MAP of each config less the baseline's, with both intervals."""
    others = styled(group.entries)[1:]

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color='#4a525c', linewidth=1)
        for row, (entry, colour, marker) in enumerate(others):
            images, seeds = group.differences(entry, 'mAP')
            axes.plot([seeds.low, seeds.high], [row + 0.14] * 2, color=colour, linewidth=1.2,
                      linestyle=(0, (2, 1.5)))  # fmt: skip
            axes.plot([images.low, images.high], [row - 0.14] * 2, color=colour, linewidth=4,
                      alpha=0.55, solid_capstyle='butt')  # fmt: skip
            axes.plot(images.difference, row, marker, color=colour, markersize=7)
        axes.set_yticks(range(len(others)), [entry.label for entry, _, _ in others])
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.grid(axis='y', visible=False)
        axes.set_xlabel(f'mAP minus that of {group.baseline.label} (points)')

    return draw(plot, 0.9 + 0.55 * len(others))


def curve_charts(group: Group) -> tuple[str | None, str]:
    """MAP, if there is more than the last, and loss while training: mean and, thin, each seed."""
    curves = {
        entry.name: [training_curves(run.run.work_dir) for run in entry.runs]
        for entry in group.entries
    }

    def plot_of(which: int, name: str) -> Callable[[Figure], None]:
        def plot(figure: Figure) -> None:
            axes = figure.subplots()
            for entry, colour, _ in styled(group.entries):
                lines = [one[which] for one in curves[entry.name] if one[which]]
                for line in lines:
                    axes.plot(list(line), list(line.values()), color=colour, alpha=0.25,
                              linewidth=0.8)  # fmt: skip
                shared = sorted(set.intersection(*(set(line) for line in lines)) if lines else [])
                means = [np.mean([line[epoch] for line in lines]) for epoch in shared]
                axes.plot(shared, means, color=colour, label=entry.label,
                          marker='o' if len(shared) == 1 else None)  # fmt: skip
            axes.set_xlabel('epoch')
            axes.set_ylabel(name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if which == 0:
                plain_log_scale(axes)
            legend(axes)

        return plot

    several = any(len(aps) > 1 for runs in curves.values() for _, aps in runs)
    aps = draw(plot_of(1, 'mAP on val (%)')) if several else None
    return aps, draw(plot_of(0, 'training loss (log scale)'))


def class_chart(group: Group, counts: Mapping[str, int], of_what: str) -> str:
    """AP of each class, the most frequent first."""
    names = sorted(
        {name for entry in group.entries for run in entry.runs for name in run.class_ap},
        key=lambda name: -counts.get(name, 0),
    )

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        where = np.arange(len(names))
        for k, (entry, colour, marker) in enumerate(styled(group.entries)):
            values = np.array(
                [[100 * run.class_ap.get(name, np.nan) for name in names] for run in entry.runs]
            )
            x = where + 0.5 * ((k + 0.5) / len(group.entries) - 0.5)
            axes.vlines(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.4)
            axes.plot(x, values.mean(axis=0), marker, color=colour, markersize=5, label=entry.label)
        for k in range(1, len(names)):
            axes.axvline(k - 0.5, color='#e3e6ea', linewidth=0.7)
        axes.grid(axis='x', visible=False)
        crowded = sum(len(name) for name in names) > 36
        axes.set_xticks(
            where,
            [f'{name} ({counts[name]})' if crowded else f'{name}\n{counts[name]}' for name in names]
            if counts else names,
            rotation=90 if crowded else 0, fontsize=8,
        )  # fmt: skip
        axes.set_xlabel(f'class, and its objects in {of_what}')
        axes.set_ylabel('AP (%)')
        legend(axes)

    return draw(plot, 3.3)


def iou_chart(group: Group) -> str:
    """AP at each IoU threshold less the baseline's, mean over the seeds."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        ap = [
            100 * np.mean([run.precision.mean(axis=1) for run in entry.runs], axis=0)
            for entry in group.entries
        ]
        for (entry, colour, marker), values in zip(styled(group.entries), ap, strict=True):
            axes.plot(IOU_THRESHOLDS, values - ap[0], marker=marker, markersize=4, color=colour,
                      label=entry.label)  # fmt: skip
        axes.set_xticks(IOU_THRESHOLDS[::2])
        axes.set_xlabel('IoU from which a detection counts')
        axes.set_ylabel(f'AP minus that of {group.baseline.label} (points)')
        legend(axes)

    return draw(plot)


def precision_recall_charts(group: Group) -> list[str]:
    """Precision over recall at IoU 0.5 and 0.75, mean over classes and seeds."""

    def plot_of(level: int, threshold: str) -> Callable[[Figure], None]:
        def plot(figure: Figure) -> None:
            axes = figure.subplots()
            recall = np.linspace(0, 1, 101)
            for entry, colour, _ in styled(group.entries):
                precision = np.mean([run.precision[level] for run in entry.runs], axis=0)
                axes.plot(recall, precision, color=colour, label=entry.label)
            axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel='recall')
            axes.set_ylabel(f'precision at IoU {threshold}')
            legend(axes)

        return plot

    return [draw(plot_of(0, '0.5')), draw(plot_of(5, '0.75'))]


def reliability_chart(group: Group, bins: int = 10) -> str:
    """Precision at IoU 0.5 of the detections in each bin of the score, pooled over seeds."""

    def plot(figure: Figure) -> None:
        axes, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color='#8a929c', linewidth=1, linestyle=(0, (4, 3)))
        edges = np.linspace(0, 1, bins + 1)
        for entry, colour, marker in styled(group.entries):
            scores, ious = pooled(entry, 0)
            index = np.clip((scores * bins).astype(int), 0, bins - 1)
            number = np.bincount(index, minlength=bins)
            some = number >= 10
            mean = np.bincount(index, scores, bins)[some] / number[some]
            right = np.bincount(index, ious > 0, bins)[some] / number[some]
            axes.plot(mean, right, marker=marker, markersize=4, color=colour, label=entry.label)
            share.stairs(number / len(entry.runs), edges, color=colour, linewidth=1.2)
        axes.set(ylim=(0, 1.02), ylabel='precision at IoU 0.5')
        share.set(xlim=(0, 1), xlabel='score', ylabel='detections')
        plain_log_scale(share)
        legend(axes)

    return draw(plot, 4.2)


def density_chart(group: Group) -> str:
    """Score against IoU of the matched detections, one panel for each config."""
    columns = min(3, len(group.entries))
    lines = -(-len(group.entries) // columns)

    def plot(figure: Figure) -> None:
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for k, axes in enumerate(panels.flat):
            axes.set_visible(k < len(group.entries))
            axes.tick_params(labelbottom=k + columns >= len(group.entries))
        for axes, entry in zip(panels.flat, group.entries, strict=False):
            scores, ious = pooled(entry, 0)
            counts = np.histogram2d(
                scores[ious > 0], ious[ious > 0], bins=[25, 20], range=[[0, 1], [0.5, 1]]
            )[0]
            axes.imshow(
                np.sqrt(counts.T), extent=(0, 1, 0.5, 1), origin='lower', aspect='auto',
                cmap='Blues', interpolation='nearest',
            )  # fmt: skip
            spearman = np.nanmean(entry.quality('spearman')) if len(scores) else np.nan
            axes.set_title(f'{entry.label}\nSpearman {spearman:.2f}', fontsize=8.5)
            axes.grid(visible=False)
        figure.supxlabel('score', fontsize=9)
        figure.supylabel('IoU', fontsize=9)

    return draw(plot, 0.6 + 1.75 * lines)


def tide_chart(group: Group) -> str:
    """AP50 that each type of error costs, mean over seeds."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        where = np.arange(len(TIDE_ERRORS))
        size = 0.8 / len(group.entries)
        for k, (entry, colour, _) in enumerate(styled(group.entries)):
            means = [100 * np.mean([run.tide[kind] for run in entry.runs]) for kind in TIDE_ERRORS]
            axes.bar(
                where + size * (k + 0.5) - 0.4, means, size * 0.9, color=colour, label=entry.label
            )
        axes.set_xticks(where, [name.replace(' ', '\n') for name in TIDE_ERRORS.values()],
                        fontsize=8)  # fmt: skip
        axes.grid(axis='x', visible=False)
        axes.set_ylabel('AP50 lost (points)')
        legend(axes)

    return draw(plot)


def pooled(entry: Entry, level: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and IoUs of all classes and seeds."""
    pairs = [one.at(level) for run in entry.runs for one in run.matches.values()]
    return np.concatenate([s for s, _ in pairs]), np.concatenate([i for _, i in pairs])
