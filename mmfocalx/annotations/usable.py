"""Annotations that a data set of mmdet would drop in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from mmengine.logging import print_log

from mmfocalx.annotations.reading import AnnotationFile, Record
from mmfocalx.annotations.wording import examples, refuse

NO_IMAGE = 'on an image that the file does not list'
NO_CATEGORY = 'of a category that the file does not list'
IGNORED = 'marked `ignore`'
CROWD = 'marked `iscrowd`'
OUTSIDE = 'outside of their image'
SMALL = 'with a box less than 1 pixel wide or high'
NO_AREA = 'with an `area` of 0 or less'
_INTENDED = (IGNORED, CROWD)
_EXAMPLE = {
    NO_IMAGE: ' with `image_id` {0[image_id]!r}',
    NO_CATEGORY: ' with `category_id` {0[category_id]!r}',
    OUTSIDE: ' with `bbox` {0[bbox]}',
    SMALL: ' with `bbox` {0[bbox]}',
    NO_AREA: ' with `area` {0[area]}',
}
_ADVICE = {
    NO_IMAGE: 'List their images, or correct `image_id`.',
    NO_CATEGORY: 'List their categories, or correct `category_id`.',
    IGNORED: 'Remove `ignore` where the object is to be learnt.',
    CROWD: 'Write `iscrowd` 0 where a box holds one object.',
    OUTSIDE: "Correct `bbox` ([x, y, width, height] in pixels), or the image's width and height.",
    SMALL: 'Write `bbox` as [x, y, width, height] in pixels.',
    NO_AREA: 'Write the area in pixels, such as width * height of the box.',
}


def warn(message: str) -> None:
    """Log a warning; MMEngine's loggers show the same one once."""
    print_log(message, 'current', logging.WARNING)


def check_usable(file: AnnotationFile, names: Collection[str]) -> None:
    """Check that a training on a file learns from its annotations.

    Some that mmdet drops are a warning that counts them by reason.

    Args:
        file: A file whose images and annotations have been checked.
        names: Categories to train on; annotations of the others are dropped on purpose.

    Raises:
        ValueError: If none is left, or the ids are off by one.
    """
    number, lost = _lost(file, names, _lost_to_training)
    _check_some_are_left(file, number, lost, 'learn from')
    unintended = {reason: found for reason, found in lost.items() if reason not in _INTENDED}
    if unintended:
        warn(
            f'{file.path}: {sum(map(len, unintended.values()))} of {number} annotations are '
            f'dropped: {_counted(file, unintended)}'
        )


def check_some_count(file: AnnotationFile, names: Collection[str]) -> None:
    """Check that an evaluation on a file has objects to find.

    Some that CocoMetric leaves out, as their ids match nothing, are a warning that counts them.

    Args:
        file: A file whose annotations have been checked.
        names: Categories to evaluate.

    Raises:
        ValueError: If none is left, or the ids are off by one.
    """
    number, lost = _lost(file, names, _lost_to_evaluation)
    _check_some_are_left(file, number, lost, 'find')
    unmatched = {reason: lost[reason] for reason in (NO_IMAGE, NO_CATEGORY) if reason in lost}
    if unmatched:
        warn(
            f'{file.path}: {sum(map(len, unmatched.values()))} of {number} annotations are not '
            f'evaluated: {_counted(file, unmatched)}'
        )


Lost = dict[str, list[Record]]


def _lost(
    file: AnnotationFile, names: Collection[str], reason_of: Callable[[Record, Record], str]
) -> tuple[int, Lost]:
    """How many annotations are of some categories, and those of them that are lost, by reason."""
    images, titles = file.image_of, file.category_names
    others = {i for i, name in titles.items() if name not in names}
    lost: Lost = {}
    number = 0
    for annotation in file.annotations:
        image, category = images.get(annotation['image_id']), annotation['category_id']
        if category in others:
            continue
        number += 1
        if image is None:
            reason = NO_IMAGE
        elif category not in titles:
            reason = NO_CATEGORY
        else:
            reason = reason_of(annotation, image)
        if reason:
            lost.setdefault(reason, []).append(annotation)
    return number, lost


def _lost_to_training(annotation: Record, image: Record) -> str:
    """Why mmdet's CocoDataset gives no object to learn from for an annotation, or ''."""
    if annotation.get('ignore'):
        return IGNORED
    x, y, width, height = annotation['bbox']
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return OUTSIDE
    if width < 1 or height < 1:
        return SMALL
    if annotation['area'] <= 0:
        return NO_AREA
    return CROWD if annotation.get('iscrowd') else ''


def _lost_to_evaluation(annotation: Record, image: Record) -> str:
    """Why no detection is right on an annotation, as CocoMetric counts, or ''."""
    if annotation.get('iscrowd'):
        return CROWD
    return SMALL if min(annotation['bbox'][2:]) < 1 else ''


def _check_some_are_left(file: AnnotationFile, number: int, lost: Lost, use: str) -> None:
    _check_shift(file, 'image', lost.get(NO_IMAGE, []), {*file.image_of})
    _check_shift(file, 'category', lost.get(NO_CATEGORY, []), {*file.category_names})
    if number and sum(map(len, lost.values())) == number:
        refuse(
            file.path,
            f'with objects to {use}',
            f'None of its {number} annotations counts: {_counted(file, lost)}',
        )


def _check_shift(file: AnnotationFile, kind: str, unmatched: list[Record], known: set[Any]) -> None:
    """Refuse ids some of which match nothing, while all would if they were one higher or lower."""
    key = f'{kind}_id'
    used = {annotation[key] for annotation in file.annotations}
    if not unmatched or len(known) < 2 or any(isinstance(i, str) for i in known | used):
        return
    for step, direction, sign in ((1, 'larger', '+'), (-1, 'smaller', '-')):
        if {i + step for i in used} <= known:
            refuse(
                file.path,
                f'that lists each `{key}` of its annotations',
                f'It does not list {examples({a[key]: None for a in unmatched})}, and all would '
                f'match if they were {direction} by 1, so the other annotations are taken for '
                f'those of another {kind}. Write `{key}` {sign} 1 in every annotation; if the '
                'others are right, remove those that match nothing.',
            )


def _counted(file: AnnotationFile, lost: Lost) -> str:
    """Numbers, an example and advice for each reason."""
    parts = []
    for reason, found in lost.items():
        example = _EXAMPLE.get(reason, '').format(found[0])
        advice = _ADVICE[reason]
        if reason == SMALL and all(max(annotation['bbox']) <= 1 for annotation in found):
            advice = (
                'The coordinates are shares, 0 to 1: multiply x and width by the width of the '
                'image, y and height by its height.'
            )
        known = ''
        if reason in (NO_IMAGE, NO_CATEGORY):
            listed = [*(file.image_of if reason == NO_IMAGE else file.category_names)]
            known = f'; the file lists {examples(listed)}'
        parts.append(
            f'{len(found)} {reason} (such as annotation {found[0]["id"]!r}{example}{known}). '
            f'{advice}'
        )
    return ' '.join(parts)
