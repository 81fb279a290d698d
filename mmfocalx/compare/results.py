"""``results.json``: the numbers of a comparison for programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmfocalx.compare.comparison import AP_KINDS, Comparison, Group, Variant
from mmfocalx.compare.intervals import Difference, Spread
from mmfocalx.files import write_json


def write_results(comparison: Comparison, path: Path) -> None:
    """Write runs, summary, failures, notes, gaps, and the differences within each group."""
    content = {
        'runs': comparison.results,
        'summary': [_summary(variant, comparison.trained) for variant in comparison.variants],
        'failed': [asdict(left_out) for left_out in comparison.left_out],
        'comparisons': [_differences(group) for group in comparison.groups],
        'notes': comparison.notes,
        'missing': [gap._asdict() for gap in comparison.gaps],
    }
    write_json(path, _without_nan(content))


def _summary(variant: Variant, trained: bool) -> dict[str, Any]:
    """Mean and standard deviation of a config over its seeds; the number of a file."""
    ap = {kind: _mean_sd(variant.ap.get(kind)) for kind in AP_KINDS}
    if not trained:
        return {'name': variant.name, **{kind: mean for kind, (mean, _) in ap.items()}}
    return {
        'name': variant.name,
        'seeds': variant.seeds,
        **ap,
        'train_seconds': _mean_sd(variant.seconds),
        'peak_rss_mb': _mean_sd(variant.memory),
    }


def _mean_sd(spread: Spread | None) -> list[float]:
    return [spread.mean, spread.sd] if spread else [math.nan, math.nan]


def _differences(group: Group) -> dict[str, Any]:
    return {
        'detector': group.detector,
        'annotations': group.annotations,
        'baseline': group.baseline.name if group.baseline else None,
        'differences': {
            variant.name: {
                kind: _intervals(difference, group.trained)
                for kind, difference in variant.differences.items()
            }
            for variant in group.others
        },
    }


def _intervals(difference: Difference, trained: bool) -> dict[str, Any]:
    over_images = {'over_images': difference.over_images._asdict()}
    if not trained:
        return over_images
    over_seeds = difference.over_seeds._asdict()
    return {**over_images, 'over_seeds': over_seeds, 'seeds': difference.seeds}


def _without_nan(content: Any) -> Any:
    """The same with None for NaN and infinity, which JSON lacks."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
