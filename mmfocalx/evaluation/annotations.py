"""COCO annotation files, with the odd records that real ones have."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hotcoco import COCO

from mmfocalx.files import file_hash


class Contents(NamedTuple):
    """What an annotation file holds.

    Attributes:
        counts: Objects of each class.
        oddities: In words, what is wrong with some annotations.
    """

    counts: dict[str, int]
    oddities: list[str]


def ground_truth(annotations: str) -> COCO:
    """The objects of an annotation file that can be judged; read once for each content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no COCO JSON.
    """
    return _ground_truth(Path(annotations), file_hash(Path(annotations)))


def contents(annotations: Path) -> Contents:
    """What an annotation file holds; see :func:`ground_truth` for errors."""
    return _contents(annotations, file_hash(annotations))


@lru_cache(maxsize=4)
def _ground_truth(path: Path, content: str) -> COCO:
    parts = _read(path)
    known = _ids(parts)
    return COCO(
        {**parts, 'annotations': [a for a in parts['annotations'] if not _fault(a, *known)]}
    )


@lru_cache(maxsize=16)
def _contents(path: Path, content: str) -> Contents:
    parts = _read(path)
    known = _ids(parts)
    names = {category['id']: category['name'] for category in parts['categories']}
    counts = dict.fromkeys(names.values(), 0)
    faults: Counter[str] = Counter()
    for annotation in parts['annotations']:
        fault = _fault(annotation, *known)
        if fault:
            faults[f'{fault} (left out)'] += 1
            continue
        counts[names[annotation['category_id']]] += 1
        if not can_be_drawn(annotation['bbox']):
            faults['a box with a negative side or a number that is not finite'] += 1
    return Contents(
        counts,
        [
            f'{number} annotation{"s have" if number > 1 else " has"} {fault}'
            for fault, number in faults.items()
        ],
    )


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        parts = {key: list(content[key]) for key in ('images', 'annotations', 'categories')}
        _ids(parts)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no COCO JSON: {type(error).__name__} {error}') from error
    return parts


def _ids(parts: Mapping[str, list[Any]]) -> tuple[set[Any], set[Any]]:
    """The known images and categories."""
    return {image['id'] for image in parts['images']}, {c['id'] for c in parts['categories']}


def _fault(annotation: Mapping[str, Any], images: set[Any], categories: set[Any]) -> str:
    """Why an annotation cannot be judged, or ''."""
    if annotation.get('category_id') not in categories:
        return 'a category that the file does not list'
    if annotation.get('image_id') not in images:
        return 'an image that the file does not list'
    box = annotation.get('bbox')
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return 'no box of four numbers'
    return ''


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def can_be_drawn(box: Any) -> bool:
    """Whether x, y, width and height are finite, and the last two not negative."""
    return all(math.isfinite(value) for value in box) and min(box[2], box[3]) >= 0
