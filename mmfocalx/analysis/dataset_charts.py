"""The charts of a report on a data set, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmfocalx.analysis.dataset import ClassFacts, DatasetStudy
from mmfocalx.plotting import COLOURS, GREY, line_styles, log_scale, wrapped
from mmfocalx.reporting.charts import Chart, draw, rows

MOST_CLASSES = 30


def charts_of(study: DatasetStudy) -> Iterator[Chart]:
    """The charts that there is something to draw in."""
    shown = len(study.classes[:MOST_CLASSES])
    which = f' The {shown} most frequent of {len(study.classes)} classes.' if shown < len(
        study.classes
    ) else ''  # fmt: skip
    if study.sizes.size:
        yield Chart(
            'Objects of each class',
            f'On a logarithmic scale, the most frequent class first.{which}',
            classes_chart,
        )
        yield Chart(
            'Alpha of each class',
            'Circle: by effective number of samples. Square: by inverse frequency. The line is the '
            f'scalar alpha.{which}',
            alpha_chart,
        )
        dashed = ''
        if study.anchors:
            dashed = ' Dashed: the smallest and the largest anchor.'
        elif study.targets:
            dashed = ' Dashed: the strides of the levels.'
        yield Chart(
            'Sizes of boxes', f'Square root of the area, {study.scale}.{dashed}', sizes_chart
        )
    if study.targets:
        yield Chart(
            'Foreground of each level',
            'Positives for each level on a logarithmic scale, with their share of the level.',
            levels_chart,
        )


def classes_chart(study: DatasetStudy) -> str:
    """Objects of each class."""
    shown = most_frequent(study)

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.barh(range(len(shown)), [one.objects for one in shown], height=0.6, color=COLOURS[0])
        for row, one in enumerate(shown):
            at_end(axes, one.objects, row, f'{one.objects}')
        rows(axes, [wrapped(one.name, 30) for one in shown])
        axes.set_xlim(0.8, 2 * max(1, *(one.objects for one in shown)))
        axes.set_xlabel('objects')
        log_scale(axes, 'x')

    return draw(plot, 0.7 + 0.26 * len(shown))


def alpha_chart(study: DatasetStudy) -> str:
    """Both alphas of each class."""
    shown = most_frequent(study)

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(study.alpha, color=GREY, linewidth=1)
        for style, key in zip(line_styles(2), ('effective_alpha', 'inverse_alpha'), strict=True):
            style.mark(axes, [getattr(one, key) for one in shown], np.arange(len(shown)))
        rows(axes, [wrapped(one.name, 30) for one in shown])
        axes.set(xlim=(-0.02, 1.02), xlabel='alpha')

    return draw(plot, 0.7 + 0.26 * len(shown))


def sizes_chart(study: DatasetStudy) -> str:
    """How large boxes are, beside the anchors, or the strides of the levels."""
    sizes = study.targets.sizes if study.targets else study.sizes
    sizes = sizes[sizes > 0]
    levels = study.targets.levels if study.targets else ()
    guides = study.anchors or [level.stride for level in levels]

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        low, high = np.log2(sizes.min()), np.log2(sizes.max())
        edges = 2.0 ** np.arange(np.floor(low), max(np.ceil(high), np.floor(low) + 1) + 0.1, 0.25)
        axes.hist(sizes, bins=edges.tolist(), color=COLOURS[0])
        for guide in guides:
            axes.axvline(guide, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel=f'side in pixels {study.scale}', ylabel='objects')
        log_scale(axes, 'x')

    return draw(plot, 3.1)


def levels_chart(study: DatasetStudy) -> str:
    """Positives of each level."""
    if study.targets is None:
        raise ValueError('there is no config')
    levels = study.targets.levels

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        numbers = [level.positives for level in levels]
        axes.barh(range(len(levels)), numbers, height=0.6, color=COLOURS[2])
        for row, level in enumerate(levels):
            share = level.positives / max(1, level.positives + level.negatives)
            at_end(axes, level.positives, row, f'{100 * share:.2g} %')
        rows(axes, [f'stride {level.stride}' for level in levels])
        axes.set_xlim(0.8, 4 * max(1, *numbers))
        axes.set_xlabel('positives')
        log_scale(axes, 'x')

    return draw(plot, 0.7 + 0.34 * len(levels))


def at_end(axes: Axes, length: float, row: int, text: str) -> None:
    """Write a text behind a bar."""
    axes.annotate(text, (max(1, length), row), (4, 0), textcoords='offset points', va='center',
                  fontsize=8)  # fmt: skip


def most_frequent(study: DatasetStudy) -> list[ClassFacts]:
    """The classes to show."""
    return sorted(study.classes, key=lambda one: -one.objects)[:MOST_CLASSES]
