"""What a reader of operating points has to know about them, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmfocalx.analysis.calibration import FEW
from mmfocalx.evaluation.matching import ClassMatches
from mmfocalx.reporting.wording import listed

FEW_OBJECTS = 100
"""Below so many, recall is known to no more than ten points."""


def notes_on_classes(reasons: Mapping[str, str]) -> list[str]:
    """Why classes have no threshold; the reason of one that has is ''."""
    notes = []
    for reason in dict.fromkeys(filter(None, reasons.values())):
        names = [name for name, own in reasons.items() if own == reason]
        notes.append(f'No threshold for {listed(names)}: {reason}.')
    return notes


def note_on_few_objects(objects: Mapping[str, int]) -> list[str]:
    """By how much recall varies where there are few objects: at most, at a recall of one half."""
    points = [
        f'{98 / math.sqrt(n):.0f} for {name} ({n} objects)'
        for name, n in objects.items()
        if 0 < n < FEW_OBJECTS
    ]
    if not points:
        return []
    return [
        'Few objects leave recall uncertain, by at most so many points at 95 %: '
        f'{listed(points)}. Precision is no more certain.'
    ]


def notes_on_calibration(matches: Mapping[str, ClassMatches], chosen: Any) -> list[str]:
    """Which classes a calibration can do little for; ``chosen`` are the images to fit on."""
    numbers = {name: found.of_images(chosen).at(0)[0] for name, found in matches.items()}
    notes = []
    for names, what in (
        ([n for n, s in numbers.items() if not len(s)],
         'keep their scores: they have no detection in the images that the calibration is fitted '
         'on'),
        ([n for n, s in numbers.items() if len(s) > 1 and np.ptp(s) == 0],
         'have equal scores only, so that calibrated ones are equal too: no threshold tells their '
         'detections apart'),
        ([n for n, s in numbers.items() if 0 < len(s) < FEW],
         f'have fewer than {FEW} detections to fit on: their curves are rough'),
    ):  # fmt: skip
        if names:
            notes.append(f'Calibration: {listed(names)} {what}.')
    return notes
