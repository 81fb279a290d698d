"""Builds a :class:`Comparison` of what was trained, part by part: no fault ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmfocalx.compare.comparison import (
    AP_KINDS,
    QUALITY,
    Comparison,
    Group,
    RunNumbers,
    Variant,
)
from mmfocalx.compare.evaluation import Evaluation
from mmfocalx.compare.identity import changes, now
from mmfocalx.compare.intervals import Difference, over_images, over_seeds, spread_of
from mmfocalx.compare.logs import training_curves
from mmfocalx.compare.notes import notes_of
from mmfocalx.compare.resolved_config import SplitData, annotation_files, split_data
from mmfocalx.compare.runs import Run
from mmfocalx.evaluation.annotations import contents, ground_truth
from mmfocalx.reporting.gaps import Gaps

LEVELS = {'mAP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)}
"""Where the IoU thresholds of a kind of AP are among the ten."""


def build(
    bare: Comparison, plan: Sequence[Run], evaluations: Mapping[Run, Evaluation]
) -> Comparison:
    """Everything that a report says.

    Args:
        bare: What is known without any evaluation.
        plan: All runs that were asked for; the first config is the baseline.
        evaluations: Of those that have a result.
    """
    comparison = replace(bare, results=[_judged(result, evaluations) for result in bare.results])
    gaps = comparison.gaps
    subjects = _subjects(plan)
    for subject in dict.fromkeys(subjects.values()):
        runs = [run for run in plan if subjects.get(run) == subject]
        group = _group(subject, runs, evaluations, gaps)
        if not comparison.groups and plan[0] not in subjects:
            group.baseline = None
            group.expected_baseline = plan[0].name  # which cannot be read
        measure_differences(group, gaps)
        comparison.groups.append(group)
    for result in comparison.results:
        comparison.versions |= result.get('versions') or {}
    with gaps.part('notes'):
        comparison.notes += notes_of(comparison, plan)
    return comparison


def _judged(result: dict[str, Any], evaluations: Mapping[Run, Evaluation]) -> dict[str, Any]:
    """A result with what its detections were found to be worth, too."""
    for evaluation in evaluations.values():
        if evaluation.result is result:
            return evaluation.numbers()
    return result


def _subjects(plan: Sequence[Run]) -> dict[Run, SplitData]:
    """What each run is judged by, of those whose config says so."""
    found = {}
    for run in plan:
        with suppress(Exception):  # the run's outcome says what is wrong with it
            data = split_data(run.settings, run.split)
            found[run] = data._replace(annotations=os.path.realpath(data.annotations), images='')
    return found


def _group(
    subject: SplitData, runs: Sequence[Run], evaluations: Mapping[Run, Evaluation], gaps: Gaps
) -> Group:
    names = list(dict.fromkeys(run.name for run in runs))
    variants = []
    for name, label in zip(names, distinct_parts(names), strict=True):
        own = [evaluations[run] for run in runs if run.name == name and run in evaluations]
        variants.append(_trained(name, label, own, gaps) if own else Variant(name, label))
    group = Group(subject.detector, subject.annotations, subject.classes, variants)
    return completed(group, lambda: _class_counts(group, runs[0]), gaps)


def completed(
    group: Group, class_counts: Callable[[], tuple[dict[str, int], str]], gaps: Gaps
) -> Group:
    """A group with its baseline, its classes and its best configs.

    Args:
        group: What is compared.
        class_counts: Gives the objects of each class, and where they were counted.
        gaps: Where to add what fails.
    """
    group.expected_baseline = group.variants[0].name
    group.baseline = group.variants[0] if group.variants[0].evaluations else None
    finished = group.finished
    if not finished:
        return group
    with gaps.part('number of images'):
        group.num_images = len(ground_truth(group.annotations).image_index)
    with gaps.part('numbers of objects'):
        group.class_counts, group.counted_in = class_counts()
    group.class_names = sorted(
        {name for variant in group.variants for name in variant.class_ap},
        key=lambda name: (-group.class_counts.get(name, 0), name),
    )
    if all(variant.seeds == finished[0].seeds for variant in finished):
        with gaps.part('best configs'):
            group.best = _best(finished)
    return group


def _best(variants: Sequence[Variant]) -> dict[str, str]:
    return {kind: max(variants, key=lambda v: v.ap[kind].mean).name for kind in AP_KINDS}


def _trained(name: str, label: str, evaluations: list[Evaluation], gaps: Gaps) -> Variant:
    """A config, with what its trainings took and logged."""
    variant = judged(name, label, evaluations, gaps)
    with gaps.part(f'time and memory of {name}'):
        variant.seconds = spread_of([e.result['train_seconds'] for e in evaluations])
        variant.memory = spread_of([e.result['peak_rss_mb'] for e in evaluations])
    with gaps.part(f'single runs of {name}'):
        variant.rows = [_row(evaluation) for evaluation in evaluations]
    with gaps.part(f'training curves of {name}'):
        for evaluation in evaluations:
            curves = training_curves(evaluation.run.work_dir)
            watched = evaluation.result['identity'].get('watched', {})
            if changes(watched, now(watched), needed=False):
                variant.watched_others = True
                curves = curves._replace(maps={})
            variant.curves.append(curves)
    return variant


def judged(name: str, label: str, evaluations: list[Evaluation], gaps: Gaps) -> Variant:
    """What detections are worth, whatever they came of."""
    variant = Variant(name, label, evaluations)
    with gaps.part(f'AP of {name}'):
        for kind in AP_KINDS:
            variant.ap[kind] = spread_of([100 * e.ap[kind] for e in evaluations])
    with gaps.part(f'AP of each class of {name}'):
        for label in dict.fromkeys(label for e in evaluations for label in e.class_ap):
            variant.class_ap[label] = spread_of(
                [100 * e.class_ap.get(label, np.nan) for e in evaluations]
            )
        variant.never_found = [
            label
            for label in variant.class_ap
            if not any((e.matches[label].ious[0] > 0).any() for e in evaluations)
        ]
    with gaps.part(f'score quality of {name}'):
        for key, about in QUALITY.items():
            variant.quality[key] = spread_of([about.factor * e.quality[key] for e in evaluations])
    with gaps.part(f'score thresholds of {name}'):
        for label in dict.fromkeys(label for e in evaluations for label in e.matches):
            key = f'oLRP_threshold/{label}'
            variant.thresholds[label] = spread_of([e.quality.get(key, np.nan) for e in evaluations])
    return variant


def _row(evaluation: Evaluation) -> RunNumbers:
    result = evaluation.result
    return RunNumbers(
        seed=evaluation.run.seed,
        ap={kind: 100 * evaluation.ap[kind] for kind in AP_KINDS},
        quality={key: about.factor * evaluation.quality[key] for key, about in QUALITY.items()},
        seconds=result['train_seconds'],
        memory=result['peak_rss_mb'],
        iterations=result['iterations'],
    )


def measure_differences(group: Group, gaps: Gaps) -> None:
    """Over the seeds that a config and the baseline both have."""
    baseline = group.baseline
    for variant in group.finished:
        if baseline is None or variant is baseline:
            continue
        shared = [seed for seed in variant.seeds if seed in baseline.seeds]
        pairs = variant.of_seeds(shared), baseline.of_seeds(shared)
        if shared:
            with gaps.part(f'differences and intervals of {variant.name}'):
                variant.differences = {kind: _difference(*pairs, kind, shared) for kind in AP_KINDS}


def _difference(
    ours: Sequence[Evaluation], base: Sequence[Evaluation], kind: str, seeds: list[int]
) -> Difference:
    def draws(evaluations: Sequence[Evaluation]) -> list[NDArray[np.float64]]:
        return [100 * e.draws[:, LEVELS[kind]].mean(axis=1) for e in evaluations]

    return Difference(
        over_images(draws(ours), draws(base)),
        over_seeds([100 * e.ap[kind] for e in ours], [100 * e.ap[kind] for e in base]),
        seeds,
    )


def _class_counts(group: Group, run: Run) -> tuple[dict[str, int], str]:
    """Objects of each class in the training annotations, or else in those that were tested on."""
    counts: dict[str, int] = {}
    try:
        for path in annotation_files(run.settings, 'train'):
            for name, number in contents(path).counts.items():
                counts[name] = counts.get(name, 0) + number
    except (OSError, ValueError):  # no COCO JSON
        counts = {}
    if counts:
        return counts, 'training'
    return contents(Path(group.annotations)).counts, 'the tested split'


def distinct_parts(names: Sequence[str]) -> list[str]:
    """Names without the underscore-separated parts that all begin or end with."""
    parts = [name.split('_') for name in names]
    if len(parts) < 2:
        return list(names)
    shortest = min(map(len, parts))
    head = 0
    while head < shortest - 1 and len({part[head] for part in parts}) == 1:
        head += 1
    tail = 0
    while tail < shortest - head - 1 and len({part[-1 - tail] for part in parts}) == 1:
        tail += 1
    return ['_'.join(part[head : len(part) - tail]) for part in parts]
