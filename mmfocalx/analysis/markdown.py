"""``report.md``: the tables of a comparison as plain text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mmfocalx.analysis.logs import HEADLINE
from mmfocalx.analysis.results import failures, summarise
from mmfocalx.analysis.runs import Outcome


def markdown_report(outcomes: Sequence[Outcome]) -> str:
    """Summary, single runs and failures, each as a Markdown table."""
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
        '## Single runs',
        table(
            ['config', 'seed', *HEADLINE, 'training time', 'iterations'],
            (
                [
                    result['name'],
                    str(result['seed']),
                    *(number(100 * result['metrics'][key]) for key in HEADLINE.values()),
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


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(
        '| ' + ' | '.join(cell.replace('|', '\\|') for cell in line) + ' |' for line in lines
    )


def number(value: float, digits: int = 1) -> str:
    """A rounded number, '-' for NaN."""
    return '-' if math.isnan(value) else f'{value:.{digits}f}'


def spread(mean_and_sd: tuple[float, float]) -> str:
    """'mean ± sd', without the sd where there is none."""
    mean, sd = mean_and_sd
    return number(mean) if math.isnan(sd) else f'{number(mean)} ± {number(sd)}'


def duration(seconds: float) -> str:
    """Minutes and seconds, '-' for NaN."""
    if math.isnan(seconds):
        return '-'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02d} min'
