"""``report.md``: the tables of a comparison as plain text."""

from __future__ import annotations

import math

from mmfocalx.compare.comparison import AP_KINDS, NOTHING, QUALITY, Comparison, Group
from mmfocalx.compare.intervals import LEGEND, Interval, Spread
from mmfocalx.reporting.gaps import Gaps
from mmfocalx.reporting.wording import duration, number, table

SHOWN_QUALITY = ('spearman', 'LaECE0', 'D-ECE', 'oLRP')


def markdown_report(comparison: Comparison, gaps: Gaps | None = None) -> str:
    """Summary, differences from each baseline, single runs and failures, as Markdown tables.

    Args:
        comparison: What it says.
        gaps: Where to add the parts that cannot be written.
    """
    gaps = Gaps(comparison.gaps) if gaps is None else gaps
    parts = [
        f'# Comparison on the {comparison.split} split',
        'Mean ± standard deviation over the seeds; AP in percent.',
    ]
    if not comparison.trained:
        parts = ['# Comparison of files of detections', 'AP in percent.']
        with gaps.part('table of files'):
            parts.append(_files(comparison))
    with gaps.part('table of configs'):
        parts.append(_summary(comparison))
    for group in comparison.groups:
        parts.append(f'## {group.detector}, {group.num_images} images')
        with gaps.part('table of differences'):
            parts.append(_differences(group))
        with gaps.part('table of score quality'):
            parts.append(_quality(group))
    if comparison.trained:
        with gaps.part('table of runs'):
            parts.append(_runs(comparison))
    if comparison.left_out:
        parts += ['## Runs left out', _left_out(comparison)]
    if comparison.notes:
        parts += ['## Notes', '\n'.join(f'- {note}' for note in comparison.notes)]
    if gaps:
        lines = (f'- {gap.part}: `{gap.reason}`' for gap in gaps)
        parts += ['## Missing parts of this report', '\n'.join(lines)]
    return '\n\n'.join(filter(None, parts)) + '\n'


def _files(comparison: Comparison) -> str:
    return table(
        ['name', 'file', 'detections', 'images with detections'],
        (
            [file['name'], f'`{file["detections"]}`', str(file['number']), str(file['num_images'])]
            for file in comparison.results
        ),
    )


def _summary(comparison: Comparison) -> str:
    if not comparison.trained:
        return table(
            ['file', *AP_KINDS],
            (
                [variant.name, *(spread(variant.ap.get(kind, NOTHING)) for kind in AP_KINDS)]
                for variant in comparison.variants
            ),
        )
    return table(
        ['config', 'seeds', *AP_KINDS, 'training time', 'peak memory (MB)'],
        (
            [
                variant.name,
                str(len(variant.seeds)),
                *(spread(variant.ap.get(kind, NOTHING)) for kind in AP_KINDS),
                duration(variant.seconds.mean),
                number(variant.memory.mean, 0),
            ]
            for variant in comparison.variants
        ),
    )


def _differences(group: Group) -> str:
    if len(group.variants) < 2:
        return ''
    if group.baseline is None:
        return f'No differences: the baseline `{group.expected_baseline}` has no finished run.'
    rows = [
        [
            variant.name,
            kind,
            number(difference.over_images.difference),
            bounds(difference.over_images),
            bounds(difference.over_seeds),
            ', '.join(map(str, difference.seeds)),
            difference.verdict if group.trained else difference.verdict_on_images,
        ]
        for variant in group.others
        for kind, difference in variant.differences.items()
    ]
    if not rows:
        return ''
    if not group.trained:
        return (
            f'Percentage points more than `{group.baseline.name}`, with 95 % intervals over images '
            '(paired bootstrap).\n\n'
            + table(
                ['file', '', 'difference', 'over images', 'verdict'],
                [[*row[:4], row[-1]] for row in rows],
            )
        )
    return (
        f'Percentage points more than `{group.baseline.name}`, with 95 % intervals over images '
        "(paired bootstrap) and over seeds (Welch's t), over the seeds that both have. "
        f'{LEGEND}\n\n'
        + table(['config', '', 'difference', 'over images', 'over seeds', 'seeds', 'verdict'], rows)
    )


def _quality(group: Group) -> str:
    return (
        'Correlation of score and IoU; calibration errors and oLRP in percent, less is better.\n\n'
        + table(
            ['config' if group.trained else 'file', *SHOWN_QUALITY],
            (
                [
                    variant.name,
                    *(
                        spread(variant.quality.get(key, NOTHING), digits_of(key))
                        for key in SHOWN_QUALITY
                    ),
                ]
                for variant in group.variants
            ),
        )
    )


def _runs(comparison: Comparison) -> str:
    return '## Single runs\n\n' + table(
        ['config', 'seed', *AP_KINDS, 'training time', 'iterations'],
        (
            [
                variant.name,
                str(row.seed),
                *(number(row.ap[kind]) for kind in AP_KINDS),
                duration(row.seconds),
                str(row.iterations or '–'),
            ]
            for variant in comparison.variants
            for row in variant.rows
        ),
    )


def _left_out(comparison: Comparison) -> str:
    return table(
        ['config', 'seed', 'reason'],
        ([run.name, str(run.seed), f'`{run.reason}`'] for run in comparison.left_out),
    )


def digits_of(quality: str) -> int:
    """Decimals that a score-quality number is shown with."""
    return 2 if QUALITY[quality].factor == 1 else 1


def bounds(interval: Interval) -> str:
    """'low to high', '–' where there is no interval."""
    if math.isnan(interval.low):
        return '–'
    return f'{number(interval.low)} to {number(interval.high)}'


def spread(values: Spread, digits: int = 1) -> str:
    """'mean ± sd', without the sd where there is none; and of how many seeds if not of all."""
    text = number(values.mean, digits)
    if math.isfinite(values.sd):
        text += f' ± {number(values.sd, digits)}'
    return f'{text} ({values.used} of {values.given})' if 0 < values.used < values.given else text
