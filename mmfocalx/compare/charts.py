"""The charts of a report, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmfocalx.compare.chart_frame import offset, pooled, row_height, styled
from mmfocalx.compare.comparison import Group
from mmfocalx.compare.evaluation import TIDE_ERRORS
from mmfocalx.compare.intervals import IOU_THRESHOLDS
from mmfocalx.plotting import AXIS_GREY, GREY, log_scale, wrapped
from mmfocalx.reporting.charts import Chart, draw, line, rows, score_limit

_LABEL_WIDTH = 30


def charts_of(group: Group) -> Iterator[Chart]:
    """The charts that there is something to draw in."""
    if group.others:
        yield Chart(
            'Difference of mAP',
            'Thick bar: 95 % interval over images (paired bootstrap, mean of the seeds). Dashed '
            "line: 95 % interval over seeds (Welch's t)."
            if group.trained
            else '95 % interval over images (paired bootstrap).',
            difference_chart,
        )
        yield Chart(
            'Loose and tight boxes',
            'mAP is the mean over these thresholds: to the left, finding and telling objects '
            'apart counts; to the right, how tightly boxes fit.',
            iou_chart,
        )
    if any(len(curves.maps) > 1 for variant in group.finished for curves in variant.curves):
        yield Chart('mAP while training', 'Mean over the seeds; thin: each seed.', map_chart)
    if group.trained:
        yield Chart(
            'Training loss',
            'Losses of different formulas are not comparable in height.',
            loss_chart,
        )
    mean_and_range = 'Mean and range over the seeds; t' if group.trained else 'T'
    shown, all_classes = len(classes_to_show(group)), len(group.class_names)
    which = (
        f' The {shown} of {all_classes} classes that differ most.' if shown < all_classes else ''
    )
    yield Chart(
        'AP of each class',
        f'{mean_and_range}he most frequent class first; in brackets the objects in '
        f'{group.counted_in}.{which}',
        class_chart,
    )
    for level, threshold in ((0, '0.5'), (5, '0.75')):
        yield Chart(
            f'Precision and recall, IoU {threshold}',
            f'Mean over classes{" and seeds" if group.trained else ""}.',
            lambda g, level=level, threshold=threshold: precision_chart(g, level, threshold),  # type: ignore[misc]
        )
    yield Chart(
        'Reliability',
        'On the dashed line, a score is the precision that it promises; below it, detections are '
        'overconfident. Bins with fewer than 10 detections are left out.',
        reliability_chart,
    )
    yield Chart(
        'Score and IoU',
        'Matched detections (IoU 0.5 or more); darker: more of them (square-root scale). A panel '
        'of low scores alone has an axis of its own.',
        density_chart,
    )
    yield Chart(
        'Types of error',
        'AP50 that would be won if errors of this type alone were repaired (TIDE). Objects that '
        'are missed count for nothing in a class of which no object is found.',
        tide_chart,
    )


def difference_chart(group: Group) -> str:
    """MAP of each config less the baseline's, with both intervals."""
    others = [(variant, style) for variant, style in styled(group) if variant.differences]
    labels = [wrapped(variant.label, _LABEL_WIDTH) for variant, _ in others]
    name_of_baseline = group.baseline.label if group.baseline else ''

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=GREY, linewidth=1)
        for row, (variant, style) in enumerate(others):
            images, seeds, _ = variant.differences['mAP']
            axes.plot([seeds.low, seeds.high], [row + 0.14] * 2, color=style.colour, linewidth=1.2,
                      linestyle=(0, (2, 1.5)))  # fmt: skip
            axes.plot([images.low, images.high], [row - 0.14] * 2, color=style.colour, linewidth=4,
                      alpha=0.55, solid_capstyle='butt')  # fmt: skip
            style.mark(axes, [images.difference], [row], size=7)
        rows(axes, labels)
        axes.set_xlabel(wrapped(f'mAP minus that of {name_of_baseline} (points)', 32))

    return draw(plot, 0.8 + sum(0.34 + 0.12 * label.count('\n') for label in labels))


def map_chart(group: Group) -> str:
    """MAP while training: mean and, thin, each seed."""
    return curve_chart(group, 'maps', 'mAP on val (%)')


def loss_chart(group: Group) -> str:
    """Loss while training: mean and, thin, each seed."""
    return curve_chart(group, 'losses', 'training loss (log scale)')


def curve_chart(group: Group, which: str, title: str) -> str:
    """One of the curves of training."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for k, (variant, style) in enumerate(styled(group)):
            found = [curve for curves in variant.curves if (curve := getattr(curves, which))]
            for curve in found:
                axes.plot(list(curve), list(curve.values()), color=style.colour, alpha=0.25,
                          linewidth=0.8)  # fmt: skip
            shared = sorted(set.intersection(*map(set, found))) if found else []
            means = [np.mean([curve[epoch] for curve in found]) for epoch in shared]
            line(axes, shared, means, style, max(1, len(shared) // 6), k)
        axes.set_xlabel('epoch')
        axes.set_ylabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if which == 'losses':
            log_scale(axes)

    return draw(plot, 3.1)


def classes_to_show(group: Group) -> list[str]:
    """All classes, or those that differ most, as many as there is room for."""

    def agreement(name: str) -> float:
        means = [v.class_ap[name].mean for v in group.finished if name in v.class_ap]
        return -float(np.nan_to_num(np.ptp(means))) if means else 0.0

    chosen = sorted(group.class_names, key=agreement)[: int(6 / row_height(group))]
    return [name for name in group.class_names if name in chosen]


def class_chart(group: Group) -> str:
    """AP of each class, or of those that differ most, the most frequent first."""
    names = classes_to_show(group)
    counts = group.class_counts
    labels = [
        wrapped(f'{name} ({counts.get(name, 0)})' if counts else name, _LABEL_WIDTH)
        for name in names
    ]

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for k, (variant, style) in enumerate(styled(group)):
            values = np.array(
                [
                    [100 * e.class_ap.get(name, np.nan) for name in names]
                    for e in variant.evaluations
                ]
            )
            y = np.arange(len(names)) + offset(k, len(group.finished))
            axes.hlines(y, values.min(axis=0), values.max(axis=0), color=style.colour, alpha=0.4)
            style.mark(axes, values.mean(axis=0), y, size=5)
        rows(axes, labels)
        axes.set_xlabel('AP (%)')

    return draw(plot, 0.6 + row_height(group) * len(names))


def iou_chart(group: Group) -> str:
    """AP at each IoU threshold less the baseline's, mean over the seeds that both have."""
    baseline = group.baseline
    if baseline is None:
        raise ValueError('there is no baseline')

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=GREY, linewidth=1)
        for variant, style in styled(group):
            if variant.differences:
                shared = variant.differences['mAP'].seeds
                ours, base = (
                    np.mean([e.precision.mean(axis=1) for e in v.of_seeds(shared)], axis=0)
                    for v in (variant, baseline)
                )
                line(axes, IOU_THRESHOLDS, 100 * (ours - base), style)
        axes.set_xticks(IOU_THRESHOLDS[::2])
        axes.set_xlabel('IoU from which a detection counts')
        axes.set_ylabel(wrapped(f'AP minus that of {baseline.label} (points)', 36))

    return draw(plot, 3.1)


def precision_chart(group: Group, level: int, threshold: str) -> str:
    """Precision over recall at an IoU threshold, mean over classes and seeds."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        recall = np.linspace(0, 1, 101)
        for k, (variant, style) in enumerate(styled(group)):
            precision = np.mean([e.precision[level] for e in variant.evaluations], axis=0)
            line(axes, recall, precision, style, 12, k)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel='recall')
        axes.set_ylabel(f'precision at IoU {threshold}')

    return draw(plot, 3.1)


def reliability_chart(group: Group, bins: int = 10) -> str:
    """Precision at IoU 0.5 of the detections in each bin of the score, pooled over seeds."""

    def plot(figure: Figure) -> None:
        axes, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=AXIS_GREY, linewidth=1, linestyle=(0, (4, 3)))
        edges = np.linspace(0, 1, bins + 1)
        for variant, style in styled(group):
            scores, ious = pooled(variant)
            index = np.clip((scores * bins).astype(int), 0, bins - 1)
            number = np.bincount(index, minlength=bins)
            counted = np.where(number >= 10, number, np.nan)  # the line ends at emptier bins
            mean = np.bincount(index, scores, bins) / counted
            right = np.bincount(index, ious > 0, bins) / counted
            line(axes, mean, right, style)
            share.stairs(
                number / len(variant.evaluations), edges, color=style.colour, linewidth=1.2
            )
        axes.set(ylim=(0, 1.02), ylabel='precision at IoU 0.5')
        share.set(xlim=(0, 1), xlabel='score', ylabel='detections')
        if any(len(pooled(variant)[0]) for variant in group.finished):
            log_scale(share)

    return draw(plot, 4.2)


def density_chart(group: Group) -> str:
    """Score against IoU of the matched detections, one panel for each config."""
    variants = group.finished
    columns = min(3, len(variants))
    lines = -(-len(variants) // columns)
    width = {1: 60, 2: 30}.get(columns, 18)
    titles = [wrapped(variant.label, width) for variant in variants]
    limits = [score_limit(pooled(variant)[0]) for variant in variants]
    shared = len({*limits}) == 1

    def plot(figure: Figure) -> None:
        panels = figure.subplots(lines, columns, sharex=shared, sharey=True, squeeze=False)
        for k, axes in enumerate(panels.flat):
            axes.set_visible(k < len(variants))
            axes.tick_params(labelbottom=k + columns >= len(variants) or not shared)
        for axes, variant, title, limit in zip(panels.flat, variants, titles, limits, strict=False):
            scores, ious = pooled(variant)
            counts = np.histogram2d(
                scores[ious > 0], ious[ious > 0], bins=[25, 20], range=[[0, limit], [0.5, 1]]
            )[0]
            axes.imshow(
                np.sqrt(counts.T), extent=(0, limit, 0.5, 1), origin='lower', aspect='auto',
                cmap='Blues', interpolation='nearest',
            )  # fmt: skip
            spearman = variant.quality['spearman'].mean
            axes.set_title(f'{title}\nSpearman {spearman:.2f}', fontsize=8)
            axes.grid(visible=False)
        figure.supxlabel('score', fontsize=9)
        figure.supylabel('IoU', fontsize=9)

    most = max(title.count('\n') for title in titles)
    return draw(plot, 0.6 + (1.75 + 0.14 * most) * lines)


def tide_chart(group: Group) -> str:
    """AP50 that each type of error costs, mean over seeds."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for k, (variant, style) in enumerate(styled(group)):
            costs = [[e.tide[kind] for kind in TIDE_ERRORS] for e in variant.evaluations]
            means = 100 * np.mean(costs, axis=0)
            y = np.arange(len(TIDE_ERRORS)) + offset(k, len(group.finished))
            axes.hlines(y, 0, means, color=style.colour, alpha=0.4)
            style.mark(axes, means, y, size=5)
        rows(axes, list(TIDE_ERRORS.values()))
        axes.set_xlabel('AP50 lost (points)')
        axes.set_xlim(left=0)

    return draw(plot, 0.6 + row_height(group) * len(TIDE_ERRORS))
