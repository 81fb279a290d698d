"""What thresholds that were chosen on other images give on these."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmfocalx.analysis.thresholds import Values
from mmfocalx.errors import check_number
from mmfocalx.evaluation.matching import ClassMatches
from mmfocalx.files import read_json
from mmfocalx.reporting.wording import listed

KINDS = ('f_beta', 'lrp')
OPTIONS = {'iou_threshold': '--iou', 'beta': '--beta', 'max_detections': '--max-detections'}
"""Those that thresholds depend on."""
OWN, ONE = 'all classes, each at its own', 'all classes at one'


class Kept(NamedTuple):
    """What keeping every detection that scores at least ``threshold`` gives.

    Attributes:
        threshold: The smallest score that is kept; NaN for classes with one each.
        kept: Number of detections that are kept.
        right: Number of those that are right.
        objects: Number of objects.
    """

    threshold: float
    kept: int
    right: int
    objects: int

    @property
    def precision(self) -> float:
        """The share of the kept detections that are right; NaN where none is kept."""
        return self.right / self.kept if self.kept else math.nan

    @property
    def recall(self) -> float:
        """The share of the objects that are found; NaN where there is none."""
        return self.right / self.objects if self.objects else math.nan

    def as_json(self) -> dict[str, float | int | None]:
        """Its numbers, None for NaN."""
        numbers = {**self._asdict(), 'precision': self.precision, 'recall': self.recall}
        return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


Rows = dict[str, dict[str, Kept | None]]
"""By class, and by :data:`KINDS`; None where no threshold was found for the class."""


def kept_at(threshold: float, scores: Values, ious: Values, num_truths: int) -> Kept:
    """What a threshold keeps.

    Args:
        threshold: The smallest score that is kept.
        scores: (D,) scores.
        ious: (D,) IoU with the matched object, 0 for a false positive.
        num_truths: Objects.
    """
    keep: NDArray[np.bool_] = scores >= threshold
    return Kept(threshold, int(keep.sum()), int((ious[keep] > 0).sum()), num_truths)


def read(file: Path, class_names: Collection[str], settings: Mapping[str, Any]) -> Any:
    """The content of a ``thresholds.json``.

    Args:
        file: It.
        class_names: Of the images that the thresholds are to be judged on.
        settings: How the detections are judged; those of :data:`OPTIONS` must be the file's.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not what it should be, is of other classes, or was made otherwise.
    """
    content = read_json(file)
    if content is None:
        raise FileNotFoundError(f'--thresholds: no file {file}')
    try:
        points = [*content['classes'].values(), content['all_classes']]
        for point in points:
            for kind in KINDS:
                if point[kind] is not None:
                    check_number('threshold', point[kind]['threshold'], low=0, high=1)
        for key in OPTIONS:
            check_number(key, content[key])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'--thresholds {file} is no thresholds.json of this tool ({error})'
        ) from error
    for key, option in OPTIONS.items():
        if content[key] != settings[key]:
            raise ValueError(
                f'--thresholds {file} was made with {option} {content[key]}: give it here, too'
            )
    if lacking := [name for name in class_names if name not in content['classes']]:
        held = listed([*content['classes']]) or 'none at all'
        raise ValueError(
            f'--thresholds {file} has no class {listed(lacking)}, but {held}: is it of other data?'
        )
    return content


def notes(content: Any, detections: Path, matches: Mapping[str, ClassMatches]) -> list[str]:
    """What a reader of :func:`judged` has to know, in sentences.

    Args:
        content: As :func:`read` gives it.
        detections: What is judged.
        matches: Of each class name.
    """
    sentences = []
    chosen_on, judged_on = _run_of(Path(content.get('detections', ''))), _run_of(detections)
    if chosen_on and judged_on and chosen_on != judged_on:
        sentences.append(
            f'The given thresholds were chosen on detections of {chosen_on}, these are of '
            f'{judged_on}: thresholds belong to one checkpoint.'
        )
    if missed := [
        name
        for name, one in matches.items()
        if one.num_truths and not all(content['classes'][name][kind] for kind in KINDS)
    ]:
        sentences.append(
            f'The given thresholds have none for {listed(missed)}: no such detection is kept, and '
            'all such objects count as missed.'
        )
    if others := [name for name in content['classes'] if name not in matches]:
        sentences.append(
            f'The given threshold for all classes was chosen with {listed(others)}, too, which the '
            'annotations do not have.'
        )
    return sentences


def _run_of(detections: Path) -> Path | None:
    """The config and the seed of detections that ``compare.py`` has written."""
    *_, config, seed, _, _ = ('',) * 4 + detections.absolute().parts
    return Path(config, seed) if re.fullmatch(r'seed\d+', seed) else None


def judged(content: Any, matches: Mapping[str, ClassMatches]) -> Rows:
    """What the thresholds of a file give on other images.

    Args:
        content: As :func:`read` gives it.
        matches: The detections of each class name on these images.

    Returns:
        A row for each class, one for all of them at these thresholds, and one for all at the one
        threshold for all classes.
    """
    rows: Rows = {
        name: {
            kind: kept_at(point['threshold'], *one.at(0), one.num_truths)
            if (point := content['classes'][name][kind])
            else None
            for kind in KINDS
        }
        for name, one in matches.items()
    }
    objects = sum(one.num_truths for one in matches.values())
    at_own: dict[str, Kept | None] = {}
    at_one: dict[str, Kept | None] = {}
    for kind in KINDS:
        at_own[kind] = _together((row[kind] for row in rows.values()), objects)
        at_one[kind] = None
        if point := content['all_classes'][kind]:
            at = point['threshold']
            parts = [kept_at(at, *one.at(0), one.num_truths) for one in matches.values()]
            at_one[kind] = _together(parts, objects)._replace(threshold=at)
    return {**rows, OWN: at_own, ONE: at_one}


def _together(rows: Iterable[Kept | None], objects: int) -> Kept:
    some = [row for row in rows if row]
    return Kept(math.nan, sum(row.kept for row in some), sum(row.right for row in some), objects)
