"""COCO annotation files, with the odd records that real ones have."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmfocalx.annotations import AnnotationFile, Record, check_ids, is_box, read_annotations
from mmfocalx.evaluation.ground_truth import GroundTruth, indexed
from mmfocalx.files import file_hash


class Contents(NamedTuple):
    """What an annotation file holds.

    Attributes:
        counts: Objects of each class.
        oddities: In words, what is wrong with some annotations.
    """

    counts: dict[str, int]
    oddities: list[str]


def ground_truth(annotations: str) -> GroundTruth:
    """The objects of an annotation file that can be judged; read once for each content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no COCO JSON, or its ids are not those of one record each.
    """
    return _ground_truth(Path(annotations), file_hash(Path(annotations)))


def contents(annotations: Path) -> Contents:
    """What an annotation file holds; see :func:`ground_truth` for errors."""
    return _contents(annotations, file_hash(annotations))


@lru_cache(maxsize=4)
def _ground_truth(path: Path, content: str) -> GroundTruth:
    file = _read(path)
    return indexed(file, [a for a in file.annotations if not _fault(a, file)])


@lru_cache(maxsize=16)
def _contents(path: Path, content: str) -> Contents:
    file = _read(path)
    names = file.category_names
    counts = dict.fromkeys(names.values(), 0)
    faults: Counter[str] = Counter()
    for annotation in file.annotations:
        fault = _fault(annotation, file)
        if fault:
            faults[f'{fault} (left out)'] += 1
            continue
        counts[names[annotation['category_id']]] += 1
        if not can_be_drawn(annotation['bbox']):
            faults['a box with a negative side or a number that is not finite'] += 1
        if annotation['id'] == 0:
            faults['the id 0 (CocoMetric counts its object as missed, this report does not)'] += 1
    return Contents(
        counts,
        [
            f'{number} annotation{"s have" if number > 1 else " has"} {fault}'
            for fault, number in faults.items()
        ],
    )


def _read(path: Path) -> AnnotationFile:
    file = read_annotations(str(path))
    check_ids(file.path, 'annotation', file.annotations)
    return file


def _fault(annotation: Record, file: AnnotationFile) -> str:
    """Why an annotation cannot be judged, or ''."""
    if annotation.get('category_id') not in file.category_names:
        return 'a category that the file does not list'
    if annotation.get('image_id') not in file.image_of:
        return 'an image that the file does not list'
    return '' if is_box(annotation.get('bbox')) else 'no box of four numbers'


def can_be_drawn(box: Any) -> bool:
    """Whether x, y, width and height are finite, and the last two not negative."""
    return all(math.isfinite(value) for value in box) and min(box[2], box[3]) >= 0
