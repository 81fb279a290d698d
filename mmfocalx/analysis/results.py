"""The numbers of a comparison: every run's, and each config's over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfocalx.analysis.files import write_json
from mmfocalx.analysis.logs import HEADLINE
from mmfocalx.analysis.runs import Outcome

_CLASS_SUFFIX = '_precision'


def class_ap(metrics: dict[str, float]) -> dict[str, float]:
    """AP of each class, from CocoMetric's class-wise metrics."""
    return {
        key.removeprefix('coco/').removesuffix(_CLASS_SUFFIX): value
        for key, value in metrics.items()
        if key.startswith('coco/') and key.endswith(_CLASS_SUFFIX)
    }


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (NaN of fewer than two values)."""
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def summarise(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per config, in the order given: mean and standard deviation over its seeds."""
    rows = []
    for name in dict.fromkeys(outcome.run.name for outcome in outcomes):
        done = [o.result for o in outcomes if o.run.name == name and o.result is not None]
        row: dict[str, Any] = {'name': name, 'seeds': [result['seed'] for result in done]}
        for title, key in HEADLINE.items():
            row[title] = mean_sd([100 * result['metrics'][key] for result in done])
        row['train_seconds'] = mean_sd([result['train_seconds'] for result in done])
        row['peak_rss_mb'] = mean_sd([result['peak_rss_mb'] for result in done])
        rows.append(row)
    return rows


def failures(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Runs without a result, with the reason."""
    return [
        {'name': o.run.name, 'seed': o.run.seed, 'reason': o.reason, 'log': str(o.run.work_dir)}
        for o in outcomes
        if o.result is None
    ]


def write_results(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write ``results.json``: runs, summary and failures."""
    write_json(
        path,
        {
            'runs': [outcome.result for outcome in outcomes if outcome.result is not None],
            'summary': summarise(outcomes),
            'failed': failures(outcomes),
        },
    )
