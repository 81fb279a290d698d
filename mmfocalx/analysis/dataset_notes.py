"""What a reader of a report on a data set has to know, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotcoco import COCO

from mmfocalx.analysis.head_targets import HeadTargets
from mmfocalx.annotations import read_annotations
from mmfocalx.evaluation.annotations import contents
from mmfocalx.reporting.wording import listed


def health(annotations: Path) -> list[str]:
    """What hotcoco's health check and this package's reader find wrong."""
    notes = [f'{annotations}: {oddity}.' for oddity in contents(annotations).oddities]
    try:
        file = read_annotations(str(annotations))
        records = {'images': file.images, 'categories': file.categories}
        found = COCO({**records, 'annotations': file.annotations}).healthcheck()
    except Exception as error:  # a file that hotcoco cannot hold: the odd records are named above
        return [*notes, f'hotcoco has not checked the file: {str(error).rstrip(".")}.']
    for kind in ('errors', 'warnings'):
        for one in found[kind]:
            text = one.get('message', one) if isinstance(one, dict) else one
            notes.append(f'Health check, {kind[:-1]}: {str(text).rstrip(".")}.')
    return notes


def notes_on_counts(objects: Sequence[dict[str, Any]], names: dict[int, str]) -> list[str]:
    """Which classes have no objects."""
    present = {one['category_id'] for one in objects}
    absent = [name for key, name in names.items() if key not in present]
    if not absent:
        return []
    return [f'No objects of {listed(absent)}: the weight is 1, since no rule gives one.']


def notes_on_targets(targets: HeadTargets, others: Sequence[str]) -> list[str]:
    """What counts of a head's targets leave out; ``others`` are classes that it does not know."""
    notes = []
    if targets.depends_on_predictions:
        notes.append(
            f'{targets.head} assigns by its predictions: the counts are those of a head that has '
            'learnt nothing.'
        )
    if not targets.positives:
        notes.append(f'{targets.head} assigns no positive to any object.')
    if others:
        notes.append(f'The config does not train on {listed(others)}: nothing here is about them.')
    return notes
