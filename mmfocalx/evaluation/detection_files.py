"""Files of detections in COCO's format, whose faults are errors that name file and fault."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmfocalx.evaluation.ground_truth import GroundTruth, in_order

KEYS = ('image_id', 'category_id', 'bbox', 'score')
SHOWN = 5
FEWEST_AT_A_CAP, SHARE_AT_A_CAP, LOWEST_CAP = 5, 0.1, 10
"""So many images, this share of all, and so many detections on each are rarely a coincidence."""


def read_detections(path: Path, truth: GroundTruth) -> list[dict[str, Any]]:
    """The detections of a file, all of images and categories of some annotations.

    Args:
        path: A JSON list of ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) and
            ``score``, as ``CocoMetric`` writes with ``outfile_prefix``.
        truth: The annotations.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such list, if it is empty, or if a detection is incomplete, not
            finite, scored outside [0, 1], or of an image or category that the annotations lack.
    """
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON: {error}') from error
    if not isinstance(found, list):
        hint = ' It looks like annotations.' if 'annotations' in found else ''
        raise ValueError(
            f'Expected {path} to be a list of detections with {", ".join(KEYS)}, but got a '
            f'{type(found).__name__}.{hint}'
        )
    if not found:
        raise ValueError(f'{path} is an empty list: there is no detection to judge.')
    _refuse(path, found, _fault_of_form)
    for key, known, what in (
        ('image_id', truth.image_index, 'images'),
        ('category_id', truth.category_index, 'categories'),
    ):
        unknown = in_order({one[key] for one in found} - known.keys())
        if unknown:
            number = sum(one[key] not in known for one in found)
            raise ValueError(
                f'{number} of {len(found)} detections of {path} are of {what} that {truth.path} '
                f'does not list: {key} {_some(unknown)}. Are they of another data set or split?'
            )
    return found


def _refuse(path: Path, found: Sequence[Any], fault_of: Callable[[Any], str]) -> None:
    faults = [(index, fault) for index, one in enumerate(found) if (fault := fault_of(one))]
    if faults:
        index, fault = faults[0]
        more = f' (and {len(faults) - 1} more such detections)' if len(faults) > 1 else ''
        raise ValueError(f'Detection {index} of {path} {fault}{more}: {found[index]!r:.200}')


def _fault_of_form(one: Any) -> str:
    """What is wrong with a detection by itself, or ''."""
    if not isinstance(one, dict):
        return 'is no mapping'
    if missing := [key for key in KEYS if key not in one]:
        return f'has no {", ".join(missing)}'
    for key in ('image_id', 'category_id'):
        if not isinstance(one[key], (int, float, str)) or isinstance(one[key], bool):
            return f'has a {key} that is neither a number nor a text'
    box = one['bbox']
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        return 'has no bbox of four finite numbers'
    if min(box[2:]) < 0:
        return 'has a bbox of negative width or height'
    if not _is_finite(one['score']) or not 0 <= one['score'] <= 1:
        return 'has no score in [0, 1]'
    return ''


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _some(values: Sequence[Any]) -> str:
    shown = ', '.join(map(str, values[:SHOWN]))
    return f'{shown} and {len(values) - SHOWN} more' if len(values) > SHOWN else shown


def images_at_a_cap(
    detections: NDArray[np.float64], truth: GroundTruth, threshold: float
) -> tuple[int, int]:
    """How many images have the most of the (N, 7) rows of `truth`, and how many rows that is.

    Images with a row that scores less than the threshold are left out: what a cap takes from them
    would score less, too. (0, 0) where they are so few, images or rows, that it may be a
    coincidence.
    """
    image, score = detections[:, 0].astype(np.int64), detections[:, 5]
    counts = np.bincount(image, minlength=len(truth.image_index))
    most = int(counts.max())
    full = counts == most
    full[image[score < threshold]] = False
    images = int(full.sum())
    if images < FEWEST_AT_A_CAP or images / len(counts) < SHARE_AT_A_CAP or most < LOWEST_CAP:
        return 0, 0
    return images, most


def outside_their_images(detections: NDArray[np.float64], truth: GroundTruth) -> int:
    """How many of the (N, 7) rows of `truth` do not touch their image, where its size is known."""
    sizes = np.array(
        [
            (image.get('width') or math.inf, image.get('height') or math.inf)
            for image in truth.coco.dataset['images']
        ]
    )
    near, size = detections[:, 1:3], sizes[detections[:, 0].astype(np.int64)]
    outside = (near >= size) | (near + detections[:, 3:5] <= 0)
    return int(outside.any(axis=1).sum())
