"""``report.md``: the tables of a comparison as plain text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mmfocalx.compare.groups import AP_KINDS, Group
from mmfocalx.compare.intervals import Interval
from mmfocalx.compare.logs import HEADLINE
from mmfocalx.compare.results import failures, mean_sd, percent_ap, summarise
from mmfocalx.compare.runs import Outcome

QUALITY = ('spearman', 'LaECE0', 'D-ECE', 'oLRP')


def markdown_report(outcomes: Sequence[Outcome], groups: Sequence[Group] = ()) -> str:
    """Summary, comparison with each baseline, single runs and failures, as Markdown tables."""
    parts = [
        f'# Comparison on the {outcomes[0].run.split} split',
        'Mean ± standard deviation over the seeds; AP in percent.',
        table(
            ['config', 'seeds', *HEADLINE, 'training time', 'memory (MB)'],
            (
                [
                    row['name'],
                    str(len(row['seeds'])),
                    *(spread(row[title]) for title in HEADLINE),
                    duration(row['train_seconds'][0]),
                    number(row['peak_rss_mb'][0], 0),
                ]
                for row in summarise(outcomes)
            ),
        ),
        *(part for group in groups for part in _comparison(group)),
        '## Single runs',
        table(
            ['config', 'seed', *HEADLINE, 'training time', 'iterations'],
            (
                [
                    result['name'],
                    str(result['seed']),
                    *(number(value) for value in percent_ap(result).values()),
                    duration(result['train_seconds']),
                    str(result['iterations'] or '-'),
                ]
                for result in (outcome.result for outcome in outcomes)
                if result is not None
            ),
        ),
    ]
    failed = failures(outcomes)
    if failed:
        parts += [
            '## Failed runs',
            table(
                ['config', 'seed', 'reason'],
                ([one['name'], str(one['seed']), f'`{one["reason"]}`'] for one in failed),
            ),
        ]
    return '\n\n'.join(parts) + '\n'


def _comparison(group: Group) -> list[str]:
    """Differences from the baseline, and what the scores are worth."""
    return [
        f'## {group.detector}, {group.num_images} images',
        f'Percentage points more than `{group.baseline.name}`, with 95 % intervals over images '
        "(paired bootstrap) and over seeds (Welch's t).",
        table(
            ['config', '', 'difference', 'over images', 'over seeds'],
            (
                [entry.name, kind, number(images.difference), bounds(images), bounds(seeds)]
                for entry in group.entries[1:]
                for kind in AP_KINDS
                for images, seeds in [group.differences(entry, kind)]
            ),
        ),
        'Correlation of score and IoU; calibration errors and oLRP in percent, less is better.',
        table(
            ['config', *QUALITY],
            (
                [
                    entry.name,
                    spread(mean_sd(entry.quality('spearman')), 2),
                    *(spread(mean_sd([100 * v for v in entry.quality(k)])) for k in QUALITY[1:]),
                ]
                for entry in group.entries
            ),
        ),
    ]


def bounds(interval: Interval) -> str:
    """'low to high', '-' where there is no interval."""
    if math.isnan(interval.low):
        return '-'
    return f'{number(interval.low)} to {number(interval.high)}'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(
        '| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines
    )


def number(value: float, digits: int = 1) -> str:
    """A rounded number, '-' for NaN; 0 has no sign."""
    return '-' if math.isnan(value) else f'{round(value, digits) + 0.0:.{digits}f}'


def spread(mean_and_sd: tuple[float, float], digits: int = 1) -> str:
    """'mean ± sd', without the sd where there is none."""
    mean, sd = (number(value, digits) for value in mean_and_sd)
    return mean if sd == '-' else f'{mean} ± {sd}'


def duration(seconds: float) -> str:
    """Minutes and seconds, '-' for NaN."""
    if math.isnan(seconds):
        return '-'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d} min'
