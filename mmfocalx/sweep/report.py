"""The files that a sweep leaves: the best config, the numbers and the page."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmfocalx.compare.logs import HEADLINE
from mmfocalx.files import write_text
from mmfocalx.reporting.page import rendered
from mmfocalx.reporting.wording import duration, number, signed
from mmfocalx.sweep.charts import charts_of
from mmfocalx.sweep.findings import Findings, results_of, state_of
from mmfocalx.sweep.progress import shown


def write_numbers(findings: Findings) -> bool:
    """Write the best config and ``results.json``; whether both are there."""
    out = findings.plan.out
    return all(
        [
            _written(out / 'best.py', findings.write_best),
            _written(out / 'results.json', findings.write_results),
        ]
    )


def write_page(findings: Findings) -> bool:
    """Write ``report.html``; whether all of it is there."""

    def write(path: Path) -> None:
        write_text(path, page(findings))

    return _written(findings.plan.out / 'report.html', write) and not findings.gaps


def page(findings: Findings) -> str:
    """The page; parts that cannot be written are added to the gaps."""
    plan = findings.plan
    return rendered(
        'mmfocalx.sweep',
        'report.html.j2',
        findings.gaps,
        dict(number=number, signed=signed, duration=duration),
        findings=findings,
        charts_of=charts_of,
        results_of=results_of,
        state_of=state_of,
        mean_ap=_mean_ap,
        seconds=_seconds,
        shown=shown,
        kinds=[kind for kind in HEADLINE if kind != plan.metric],
        best_config=lambda: (plan.out / 'best.py').read_text(encoding='utf-8'),
    )


def _mean_ap(results: Sequence[dict[str, Any]], kind: str) -> float:
    """In percent; NaN where a seed lacks it."""
    values = [result['ap'].get(kind) for result in results]
    if not values or None in values:
        return math.nan
    return 100 * statistics.fmean(values)


def _seconds(results: Sequence[dict[str, Any]]) -> float:
    return sum(result['train_seconds'] for result in results) if results else math.nan


def _written(path: Path, write: Callable[[Path], None]) -> bool:
    try:
        write(path)
    except Exception as error:  # of one file: the others are written
        print(f'{path} could not be written: {type(error).__name__}: {error}', file=sys.stderr)
        return False
    return True
