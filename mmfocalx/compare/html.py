"""``report.html``: everything about a comparison in one file that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mmfocalx.compare import charts
from mmfocalx.compare.detections import differing_pictures
from mmfocalx.compare.groups import AP_KINDS, Entry, Group
from mmfocalx.compare.intervals import Interval
from mmfocalx.compare.markdown import duration, number, spread
from mmfocalx.compare.page import PAGE
from mmfocalx.compare.results import failures, mean_sd
from mmfocalx.compare.runs import Outcome

QUALITY = {
    'spearman': ('Spearman', 'rank correlation of score and IoU over matched detections', True, 1),
    'pearson': ('Pearson', 'linear correlation of score and IoU over matched detections', True, 1),
    'LaECE0': ('LaECE0', 'localisation-aware calibration error, all detections', False, 100),
    'LaECE0_kept': ('LaECE0 kept', 'the same above the optimal LRP threshold', False, 100),
    'D-ECE': ('D-ECE', 'detection calibration error at IoU 0.5, all detections', False, 100),
    'D-ECE_kept': ('D-ECE kept', 'the same above the optimal LRP threshold', False, 100),
    'oLRP': ('oLRP', 'optimal localisation-recall-precision error', False, 100),
    'oLRP_loc': ('oLRP loc', 'its localisation part: mean of 1 - IoU', False, 100),
    'oLRP_FP': ('oLRP FP', 'its false-positive part: 1 - precision', False, 100),
    'oLRP_FN': ('oLRP FN', 'its false-negative part: 1 - recall', False, 100),
}
"""Title, meaning, whether more is better, and the factor it is shown with."""


def html_report(groups: Sequence[Group], outcomes: Sequence[Outcome], command: str) -> str:
    """The page.

    Args:
        groups: What was compared.
        outcomes: Every run, those that failed too.
        command: The command line that makes it.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters.update(
        number=number, spread=spread, duration=duration, signed=signed, verdict=verdict
    )
    return environment.from_string(PAGE).render(
        groups=[_group(one) for one in groups],
        failed=failures(outcomes),
        finished=sum(one.result is not None for one in outcomes),
        planned=len(outcomes),
        split=outcomes[0].run.split,
        seeds=sorted({one.run.seed for one in outcomes}),
        quality=QUALITY,
        quality_tables=(list(QUALITY)[:6], list(QUALITY)[6:]),
        ap_kinds=AP_KINDS,
        command=command,
        versions=next((one.result['versions'] for one in outcomes if one.result), {}),
    )


def _group(group: Group) -> dict[str, Any]:
    counts, of_what = class_counts(group)
    entries = [_entry(group, entry, colour) for entry, colour, _ in charts.styled(group.entries)]
    return {
        'detector': group.detector,
        'annotations': group.annotations,
        'num_images': group.num_images,
        'baseline': group.baseline.label,
        'entries': entries,
        'best': {
            kind: max(entries, key=lambda one: one['ap'][kind][0])['name'] for kind in AP_KINDS
        },
        'classes': sorted(
            {name for entry in group.entries for run in entry.runs for name in run.class_ap},
            key=lambda name: (-counts.get(name, 0), name),
        ),
        'counts': counts,
        'of_what': of_what,
        'charts': list(_charts(group, counts, of_what)),
        'pictures': _pictures(group),
    }


def _entry(group: Group, entry: Entry, colour: str) -> dict[str, Any]:
    results = [run.result for run in entry.runs]
    return {
        'name': entry.name,
        'label': entry.label,
        'colour': colour,
        'seeds': [run.run.seed for run in entry.runs],
        'ap': {kind: mean_sd(entry.ap(kind)) for kind in AP_KINDS},
        'differences': None
        if entry is group.baseline
        else {kind: group.differences(entry, kind) for kind in AP_KINDS},
        'quality': {
            key: mean_sd([factor * value for value in entry.quality(key)])
            for key, (_, _, _, factor) in QUALITY.items()
        },
        'class_ap': {
            name: mean_sd([100 * run.class_ap[name] for run in entry.runs if name in run.class_ap])
            for run in entry.runs
            for name in run.class_ap
        },
        'thresholds': {
            name: mean_sd(entry.quality(f'oLRP_threshold/{name}')) for name in entry.runs[0].matches
        },
        'seconds': mean_sd([one['train_seconds'] for one in results])[0],
        'memory': mean_sd([one['peak_rss_mb'] for one in results])[0],
        'runs': [
            {
                'seed': run.run.seed,
                'ap': {kind: 100 * value for kind, value in run.ap.items()},
                'quality': {
                    key: factor * run.quality[key] for key, (_, _, _, factor) in QUALITY.items()
                },
                'seconds': run.result['train_seconds'],
                'memory': run.result['peak_rss_mb'],
                'iterations': run.result['iterations'],
            }
            for run in entry.runs
        ],
    }


def _charts(group: Group, counts: dict[str, int], of_what: str) -> Iterable[tuple[str, str, str]]:
    """Title, explanation and source of each chart."""
    if len(group.entries) > 1:
        yield (
            'Difference of mAP',
            'Thick bar: 95 % interval over images (paired bootstrap, mean of the seeds). Dashed '
            "line: 95 % interval over seeds (Welch's t).",
            charts.difference_chart(group),
        )
        yield (
            'Loose and tight boxes',
            'mAP is the mean over these thresholds: to the left, finding and telling objects '
            'apart counts; to the right, how tightly boxes fit.',
            charts.iou_chart(group),
        )
    curves = charts.curve_charts(group)
    if curves[0]:
        yield 'mAP while training', 'Mean over the seeds; thin: each seed.', curves[0]
    yield 'Training loss', 'Losses of different formulas are not comparable in height.', curves[1]
    yield (
        'AP of each class',
        'Mean and range over the seeds; the most frequent class first.',
        charts.class_chart(group, counts, of_what),
    )
    precision = charts.precision_recall_charts(group)
    yield 'Precision and recall, IoU 0.5', 'Mean over classes and seeds.', precision[0]
    yield 'Precision and recall, IoU 0.75', 'Mean over classes and seeds.', precision[1]
    yield (
        'Reliability',
        'On the dashed line, a score is the precision that it promises; below it, detections are '
        'overconfident. Bins with fewer than 10 detections are left out.',
        charts.reliability_chart(group),
    )
    yield (
        'Score and IoU',
        'Matched detections (IoU 0.5 or more); darker: more of them (square-root scale).',
        charts.density_chart(group),
    )
    yield (
        'Types of error',
        'AP50 that would be won if errors of this type alone were repaired (TIDE).',
        charts.tide_chart(group),
    )


def _pictures(group: Group) -> dict[str, Any] | None:
    if len(group.entries) < 2:
        return None
    other = max(group.entries[1:], key=lambda entry: np.mean(entry.ap('mAP')))
    seeds = {run.run.seed: run for run in group.baseline.runs}
    pairs = [(seeds[run.run.seed], run) for run in other.runs if run.run.seed in seeds]
    if not pairs:
        return None
    return {
        'labels': (group.baseline.label, other.label),
        'seed': pairs[0][0].run.seed,
        'pairs': differing_pictures(*pairs[0]),
    }


def class_counts(group: Group) -> tuple[dict[str, int], str]:
    """Objects of each class in the training annotations, or else in those that were tested on."""
    dataset = group.baseline.runs[0].run.resolve().train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file', ''))
    of_what = 'training'
    if not path.is_file():
        path, of_what = Path(group.annotations), 'the tested split'
    content = json.loads(path.read_text())
    names = {one['id']: one['name'] for one in content['categories']}
    counts = dict.fromkeys(names.values(), 0)
    for one in content['annotations']:
        counts[names[one['category_id']]] += 1
    return counts, of_what


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, '-' for NaN."""
    rounded = round(value, digits)
    return '–' if math.isnan(value) else f'{rounded + 0.0:+.{digits}f}'.replace('-', '−')


def verdict(intervals: tuple[Interval, Interval]) -> Markup:
    """What both intervals say together."""
    images, seeds = intervals
    word = 'better' if images.difference > 0 else 'worse'
    if images.certain and seeds.certain:
        return Markup('<strong class="{0}">{0}</strong>').format(word)
    if images.certain and math.isnan(seeds.low):
        return Markup('{} on these images; one seed says no more').format(word)
    if images.certain:
        return Markup('not beyond seed noise')
    return Markup('not certain')
