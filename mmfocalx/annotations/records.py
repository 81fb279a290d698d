"""What every annotation and image has to hold for training and for CocoMetric."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import metadata
from itertools import chain
from typing import Any

from mmfocalx.annotations.reading import AnnotationFile, Record, check_ids
from mmfocalx.annotations.usable import warn
from mmfocalx.annotations.wording import PLURALS, refuse, title

_NUMBERS = {int, float}
_TYPES: dict[str, set[type]] = {
    'image_id': {int, float, str},
    'category_id': {int, float, str},
    'area': _NUMBERS,
    'iscrowd': {int, float, bool},
    'file_name': {str},
}
_ADVICE = {
    'image_id': 'Write the `id` of the image that it is on.',
    'category_id': 'Write the `id` of its category.',
    'bbox': 'Write [x, y, width, height] in pixels as four numbers, or remove the annotation.',
    'area': 'Write the area in pixels, such as width * height of the box, as a number.',
    'iscrowd': 'Write 0, or 1 where one box stands for a crowd, as a number.',
    'file_name': 'Write the path of the image below data_prefix, as a text.',
    'height': 'Write the height of the image in pixels, as a number above 0.',
    'width': 'Write the width of the image in pixels, as a number above 0.',
}
_INFO_IS_NEEDED = ('2.0.9', '2.0.10')
"""Releases of pycocotools that refuse a file without `info`, once all is predicted."""


def is_box(box: Any) -> bool:
    """Whether a JSON value is a list of four numbers, NaN and infinity included."""
    return type(box) is list and len(box) == 4 and {*map(type, box)} <= _NUMBERS


def check_images(file: AnnotationFile) -> None:
    """Check that images have what a data set of mmdet reads of them.

    Raises:
        ValueError: If not; the message names the file, the image, the key and what to write.
    """
    _check_values(file.path, 'image', file.images, ('height', 'width', 'file_name'))


def check_annotations(file: AnnotationFile, to_evaluate: bool = False) -> None:
    """Check that annotations have an id of their own, and values that can be used.

    Args:
        file: The file.
        to_evaluate: Ask for `iscrowd` too, which CocoMetric needs, and for the box of annotations
            that are marked `ignore`, which training passes over.

    Raises:
        ValueError: If not; the message names the file, the annotation, the key and what to write.
    """
    check_ids(file.path, 'annotation', file.annotations)
    _check_values(file.path, 'annotation', file.annotations, ('image_id', 'category_id'))
    used = file.annotations
    if not to_evaluate and any('ignore' in annotation for annotation in used):
        used = [annotation for annotation in used if not annotation.get('ignore')]
    _check_values(file.path, 'annotation', used, ('bbox', 'area'))
    with_crowd = used if to_evaluate else [a for a in used if 'iscrowd' in a]
    _check_values(file.path, 'annotation', with_crowd, ('iscrowd',))


def _check_values(path: str, kind: str, records: list[Record], keys: Iterable[str]) -> None:
    """Refuse the first record that lacks a key or holds a value that cannot be used."""
    for key in keys:
        if _usable(key, records):
            continue
        position, record = next(
            (position, record)
            for position, record in enumerate(records)
            if not _usable(key, [record])
        )
        found = f'{record[key]!r:.80}' if key in record else 'none'
        refuse(
            path,
            f'whose {PLURALS[kind]} each have a usable `{key}`',
            f'The {title(kind, record, position)} has {found}. {_ADVICE[key]}',
        )


def _usable(key: str, records: list[Record]) -> bool:
    """Whether all records have a key, with a value that can be used."""
    try:
        values = [record[key] for record in records]
    except KeyError:
        return False
    types = {*map(type, values)}
    if key == 'bbox':
        numbers = chain.from_iterable
        return (
            types <= {list}
            and {*map(len, values)} <= {4}
            and {*map(type, numbers(values))} <= _NUMBERS
            and all(map(math.isfinite, numbers(values)))
        )
    if key in ('height', 'width'):
        return types <= _NUMBERS and all(0 < value < math.inf for value in values)
    return types <= _TYPES[key]


def check_for_coco_metric(file: AnnotationFile) -> None:
    """Check what mmdet's CocoMetric would fail on after an epoch, or miscount in silence.

    An annotation with the id 0 is a warning: CocoMetric counts its object as missed.

    Raises:
        ValueError: If not; the message names the file, the record, the key and what to write.
    """
    check_annotations(file, to_evaluate=True)
    if 'info' not in file.content and (version := _version('pycocotools')) in _INFO_IS_NEEDED:
        refuse(
            file.path,
            'with an `info`',
            f'It has none, and CocoMetric with pycocotools {version} fails without. Write '
            '"info": {} at its top level, or install pycocotools>=2.0.11.',
        )
    numbers = [_as_number(annotation['id']) for annotation in file.annotations]
    if None in numbers:
        text = file.annotations[numbers.index(None)]['id']
        refuse(
            file.path,
            'whose annotations have a number for `id`',
            f'The annotation {text!r} has a text, which CocoMetric cannot take. Number the '
            'annotations 1, 2, 3, ... through the whole file.',
        )
    if 0 in numbers:
        warn(
            f'{file.path}: an annotation has the `id` 0. CocoMetric never matches a detection to '
            'it, counts its object as missed, and so reports too low a mAP (ScoreQualityMetric '
            'and the comparison match it). Number the annotations from 1.'
        )


def _as_number(value: Any) -> float | None:
    """What NumPy makes of an id, if it is a number."""
    try:
        return float(value)
    except ValueError:
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''
