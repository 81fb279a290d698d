"""What a reader of a report has to know about its numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmfocalx.compare.comparison import Comparison, Group, Variant
from mmfocalx.compare.resolved_config import annotation_files, config_hash, read_config
from mmfocalx.compare.runs import Run
from mmfocalx.evaluation.annotations import contents
from mmfocalx.files import file_hash
from mmfocalx.reporting.wording import listed


def notes_of(comparison: Comparison, plan: Sequence[Run]) -> list[str]:
    """All notes, each once."""
    first_runs = {run.name: run for run in reversed(plan)}
    grouped = {variant.name for variant in comparison.variants}
    notes = [*_on_versions(comparison)]
    for name in dict.fromkeys(run.name for run in plan):
        if name in grouped:
            notes += _on_config(first_runs[name])
        else:
            notes.append(
                f'{name} is in no group: its config does not say what it is tested on.'
                + (' It was to be the baseline of the first group.' if name == plan[0].name else '')
            )
    notes += [*_on_groups(comparison.groups), *_on_folder(plan)]
    for group in comparison.groups:
        notes += _on_group(group)
        if not group.finished:
            continue
        files = [Path(group.annotations)]
        files += annotation_files(first_runs[group.variants[0].name].settings, 'train')
        for path in files:
            notes += _on_annotations(path)
    return list(dict.fromkeys(notes))


def _on_versions(comparison: Comparison) -> Iterator[str]:
    for package in comparison.versions:
        found = {
            (result.get('versions') or {}).get(package, 'none') for result in comparison.results
        }
        if len(found) > 1:
            yield f'The runs were trained with different versions of {package}: ' + ', '.join(
                sorted(found)
            )


def _on_config(run: Run) -> Iterator[str]:
    start, resumes = run.settings.get('load_from'), run.settings.get('resume')
    if start and resumes:
        yield (
            f'{run.name} goes on with the training of {start} (resume=True): its seeds share what '
            'was trained there.'
        )
    elif start:
        content = '' if '://' in start else f' (content {file_hash(Path(start).resolve())})'
        yield f'{run.name} starts from the checkpoint {start}{content}.'
    elif resumes:
        yield (
            f'{run.name} sets resume=True, which does nothing here: a run goes on from its own '
            'checkpoints only.'
        )
    try:
        edited = run.content is not None and config_hash(run.content) != config_hash(
            read_config(run.config)
        )
    except Exception:  # by now it may say anything
        edited = True
    if edited:
        yield (
            f'{run.config} was edited while the comparison ran: every number here is of what it '
            'said at the start.'
        )


def _on_groups(groups: Sequence[Group]) -> Iterator[str]:
    """Why configs of one detector are not compared with each other."""
    for k, group in enumerate(groups):
        for other in groups[:k]:
            if group.detector == other.detector:
                reasons = []
                if group.annotations != other.annotations:
                    reasons.append('they are tested on different annotation files')
                if group.classes != other.classes:
                    reasons.append('they have different classes')
                yield (
                    f'{listed([v.name for v in group.variants])} and '
                    f'{listed([v.name for v in other.variants])} are not compared: '
                    + ', and '.join(reasons)
                    + '.'
                )


def _on_group(group: Group) -> Iterator[str]:
    baseline = group.baseline
    if baseline is None and len(group.variants) > 1:
        yield (
            f'No differences of {group.detector}: the baseline {group.expected_baseline} has no '
            'finished run. No other config takes its place.'
        )
    finished = group.finished
    if len({tuple(variant.seeds) for variant in finished}) > 1:
        yield (
            f'The configs of {group.detector} have different seeds finished, so no best one is '
            'marked: their means are not over the same seeds.'
        )
    first = {v.name: v.rows[0] for v in finished if v.rows}
    lengths = {name: row.iterations for name, row in first.items() if row.iterations}
    if len({*lengths.values()}) > 1:
        counts = ', '.join(f'{name} {length}' for name, length in lengths.items())
        yield (
            f'The configs of {group.detector} were trained for different numbers of iterations: '
            f'{counts}.'
        )
    never_found: list[str] = []
    for variant in finished:
        if variant.watched_others:
            yield (
                f'{variant.name} was trained beside other val annotations: its mAP while training '
                'is left out.'
            )
        if baseline is not None and variant is not baseline:
            yield from _on_pairs(variant, baseline)
    for name in group.class_names:
        if all(name in variant.never_found for variant in finished):
            never_found.append(name)
    if never_found:
        yield never_found_by(f'No seed of any {group.detector} config found', never_found)
    for variant in finished:
        own = [name for name in variant.never_found if name not in never_found]
        if own:
            yield never_found_by(f'No seed of {variant.name} found', own)


def _on_folder(plan: Sequence[Run]) -> Iterator[str]:
    """Which configs have been run in the same folder, by another command."""
    asked = {run.name for run in plan}
    folders = {run.work_dir.parent.parent for run in plan}
    results = (file for folder in folders for file in folder.glob('*/seed*/*/result.json'))
    others = sorted({file.parents[2].name for file in results} - asked)
    if others:
        yield (
            f'Runs of {listed(others)} are in this folder, too; this report is of the configs that '
            'the last command named.'
        )


def never_found_by(subject: str, classes: Sequence[str]) -> str:
    """A sentence on classes of which no object was found; the subject comes with its verb."""
    several = len(classes) > 1
    return (
        f'{subject} an object of the class{"es" * several} {listed(classes)}: mAP counts '
        f'{"them" if several else "it"} as 0.'
    )


def _on_pairs(variant: Variant, baseline: Variant) -> Iterator[str]:
    shared = [seed for seed in variant.seeds if seed in baseline.seeds]
    if not shared:
        yield f'{variant.name} has no finished seed in common with the baseline {baseline.name}.'
    elif shared != variant.seeds or shared != baseline.seeds:
        yield (
            f'{variant.name} is compared with the baseline {baseline.name} over the seeds that '
            f'both have: {", ".join(map(str, shared))}.'
        )
    same = [
        one.result['predictions_hash'] == other.result['predictions_hash']
        for one, other in zip(variant.of_seeds(shared), baseline.of_seeds(shared), strict=True)
    ]
    if same and all(same):
        yield f'{variant.name} has the same detections as the baseline {baseline.name}.'


def _on_annotations(path: Path) -> Iterator[str]:
    try:
        for oddity in contents(path).oddities:
            yield f'{path}: {oddity}.'
    except (OSError, ValueError) as error:
        yield f'Objects in {path} were not counted: {error}.'
