"""The charts of a report on operating points, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from hotcoco.metrics import calibration_curve
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmfocalx.analysis.calibration import Calibration
from mmfocalx.analysis.operating_point import Study
from mmfocalx.evaluation.matching import ClassMatches
from mmfocalx.plotting import AXIS_GREY, COLOURS, line_styles, log_scale, wrapped
from mmfocalx.reporting.charts import Chart, draw, line, rows, score_limit

BINS, FEWEST = 10, 10
MOST_CLASSES = 24
BEFORE, AFTER = 'before', 'after'
F_BETA, LRP = 'best F-beta', 'smallest LRP error'


def charts_of(study: Study) -> Iterator[Chart]:
    """The charts that there is something to draw in."""
    if any(not one.reason for one in study.classes):
        only = ' chosen on these images, for comparison only' if study.given else ''
        yield Chart(
            f'Thresholds{only}',
            f'Circle: {F_BETA}. Square: {LRP}. The most frequent classes first.',
            thresholds_chart,
        )
    if not study.overall.reason:
        yield Chart(
            'Precision and recall over the threshold',
            'One threshold for all classes: circle precision, square recall, diamond F-beta.',
            over_threshold_chart,
        )
    if study.calibration:
        yield Chart(
            'Reliability',
            'Circle: before. Square: after. On the dashed line, a score is the precision that it '
            f'promises. Bins with fewer than {FEWEST} detections are left out.',
            reliability_chart,
        )
        yield Chart(
            'Calibration curves',
            'One line for each class: what becomes of its scores.',
            curves_chart,
        )


def thresholds_chart(study: Study) -> str:
    """Both thresholds of each class."""
    shown = sorted((one for one in study.classes if not one.reason), key=lambda one: -one.objects)[
        :MOST_CLASSES
    ]
    styles = line_styles(2)
    limit = score_limit(pooled(study.matches)[0])

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for row, one in enumerate(shown):
            for style, point, y in zip(styles, (one.f_beta, one.lrp), (-0.15, 0.15), strict=True):
                if point:
                    style.mark(axes, [point.threshold], [row + y])
        rows(axes, [wrapped(f'{one.name} ({one.objects})', 30) for one in shown])
        axes.set(xlim=(-0.02 * limit, 1.02 * limit), xlabel='score')

    return draw(plot, 0.7 + 0.3 * len(shown))


def over_threshold_chart(study: Study) -> str:
    """Precision, recall and F-beta of all classes together."""
    scores, ious = pooled(study.matches)
    order = np.argsort(-scores, kind='stable')
    scores, hit = scores[order], ious[order] > 0
    last = np.append(scores[1:] != scores[:-1], True)
    true, kept = np.cumsum(hit)[last], np.flatnonzero(last) + 1
    objects, beta = study.overall.objects, study.settings.beta
    values = (
        true / kept,
        true / objects,
        (1 + beta**2) * true / (beta**2 * objects + kept),
    )

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for k, (style, value) in enumerate(zip(line_styles(3), values, strict=True)):
            spacing = max(1, len(kept) // 8)
            line(axes, scores[last], value, style, spacing, k * spacing // 3)
        axes.set(xlim=(0, score_limit(scores)), ylim=(0, 1.02), xlabel='threshold of the score')

    return draw(plot, 3.1)


def reliability_chart(study: Study) -> str:
    """Precision of each bin of the score, before and after, and the number of detections."""
    calibration = calibration_of(study)

    def plot(figure: Figure) -> None:
        axes, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        diagonal(axes)
        for style, matches in zip(
            line_styles(2), (calibration.raw, calibration.calibrated), strict=True
        ):
            curve = calibration_curve(*right(matches), BINS)
            some = np.array([one['count'] >= FEWEST for one in curve])  # the line ends at others
            x, y = ([one[key] for one in curve] for key in ('avg_confidence', 'avg_accuracy'))
            line(axes, np.where(some, x, np.nan), np.where(some, y, np.nan), style)
            edges = [one['bin_lower'] for one in curve] + [1.0]
            share.stairs([one['count'] for one in curve], edges, color=style.colour, linewidth=1.2)
        axes.set(ylim=(0, 1.02), ylabel='precision')
        share.set(xlim=(0, 1), xlabel='score', ylabel='detections')
        log_scale(share)

    return draw(plot, 4.2)


def curves_chart(study: Study) -> str:
    """The curve of each class."""
    calibration = calibration_of(study)
    limit = score_limit(pooled(study.matches)[0])

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        diagonal(axes)
        for k, (name, curve) in enumerate(calibration.calibrator.classes.items()):
            x = [0.0, *curve.scores, 1.0]
            y = [curve.calibrated[0], *curve.calibrated, curve.calibrated[-1]]
            axes.plot(x, y, color=COLOURS[k % len(COLOURS)], linewidth=1, alpha=0.8, label=name)
        if len(calibration.calibrator.classes) <= len(COLOURS):
            axes.legend(loc='upper left', frameon=False)
        axes.set(xlim=(0, limit), ylim=(0, 1.02), xlabel='score', ylabel='calibrated score')

    return draw(plot, 3.1)


def calibration_of(study: Study) -> Calibration:
    """The calibration of a study that has one."""
    if study.calibration is None:
        raise ValueError('the scores are not calibrated')
    return study.calibration


def diagonal(axes: Axes) -> None:
    """Where a score is what it promises."""
    axes.plot([0, 1], [0, 1], color=AXIS_GREY, linewidth=1, linestyle=(0, (4, 3)))


def pooled(
    matches: Mapping[str, ClassMatches],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and IoUs of all classes at the IoU threshold."""
    pairs = [one.at(0) for one in matches.values()]
    return np.concatenate([s for s, _ in pairs]), np.concatenate([i for _, i in pairs])


def right(
    matches: Mapping[str, ClassMatches],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of all classes, and which detections are right."""
    scores, ious = pooled(matches)
    return scores, ious > 0
