"""The numbers of a comparison: every run's, and each config's over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmfocalx.compare.evaluation import Evaluation
from mmfocalx.compare.groups import AP_KINDS, Group
from mmfocalx.compare.logs import HEADLINE
from mmfocalx.compare.runs import Outcome
from mmfocalx.files import write_json


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (NaN of fewer than two values)."""
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def judged(outcome: Outcome, evaluation: Evaluation) -> Outcome:
    """The outcome whose result holds what its detections were found to be worth, too."""
    one = evaluation
    found = {'ap': one.ap, 'class_ap': one.class_ap, 'tide': one.tide, 'quality': one.quality}
    return replace(outcome, result={**one.result, **found})


def percent_ap(result: dict[str, Any]) -> dict[str, float]:
    """MAP, AP50 and AP75 of a run, to the digits of its log as long as it is not judged."""
    logged = {kind: result['metrics'][key] for kind, key in HEADLINE.items()}
    return {kind: 100 * value for kind, value in result.get('ap', logged).items()}


def summarise(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per config, in the order given: mean and standard deviation over its seeds."""
    rows = []
    for name in dict.fromkeys(outcome.run.name for outcome in outcomes):
        done = [o.result for o in outcomes if o.run.name == name and o.result is not None]
        row: dict[str, Any] = {'name': name, 'seeds': [result['seed'] for result in done]}
        for kind in HEADLINE:
            row[kind] = mean_sd([percent_ap(result)[kind] for result in done])
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


def write_results(outcomes: Sequence[Outcome], groups: Sequence[Group], path: Path) -> None:
    """Write ``results.json``: runs, summary, failures, and the comparison within each group."""
    content = {
        'runs': [outcome.result for outcome in outcomes if outcome.result is not None],
        'summary': summarise(outcomes),
        'failed': failures(outcomes),
        'comparisons': [_comparison(one) for one in groups],
    }
    write_json(path, _plain(content))


def _comparison(group: Group) -> dict[str, Any]:
    return {
        'detector': group.detector,
        'annotations': group.annotations,
        'baseline': group.baseline.name,
        'differences': {
            entry.name: {
                kind: dict(
                    zip(
                        ('over_images', 'over_seeds'),
                        (one._asdict() for one in group.differences(entry, kind)),
                        strict=True,
                    )
                )
                for kind in AP_KINDS
            }
            for entry in group.entries[1:]
        },
    }


def _plain(content: Any) -> Any:
    """The same with None for NaN, which JSON lacks."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
