"""Which detections of a file to keep, and what their scores are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmfocalx.analysis import given_thresholds
from mmfocalx.analysis.calibration import TARGETS, Calibration, calibrate, first_half
from mmfocalx.analysis.given_thresholds import Rows
from mmfocalx.analysis.operating_notes import (
    note_on_few_objects,
    notes_on_calibration,
    notes_on_classes,
)
from mmfocalx.analysis.thresholds import OperatingPoint, best_f_beta, best_lrp
from mmfocalx.errors import check_choice, check_integer, check_number
from mmfocalx.evaluation.annotations import contents, ground_truth
from mmfocalx.evaluation.detection_files import (
    images_at_a_cap,
    outside_their_images,
    read_detections,
)
from mmfocalx.evaluation.matching import ANY_OVERLAP, ClassMatches, match

WORTH = ('D-ECE', 'LaECE0')
"""The numbers that calibration is judged by."""


@dataclass(frozen=True)
class Settings:
    """How detections are judged.

    Args:
        iou_threshold: IoU that a match needs, in (0, 1).
        beta: How many times as much as precision recall counts, above 0.
        target: What a calibrated score promises: 'precision' or 'iou'.
        seed: Chooses the half of the images that the calibration is fitted on.
        max_detections: Detections that count for each image and class.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    iou_threshold: float = 0.5
    beta: float = 1.0
    target: str = 'precision'
    seed: int = 0
    max_detections: int = 100

    def __post_init__(self) -> None:
        check_number('iou_threshold', self.iou_threshold, above=0, below=1)
        check_number('beta', self.beta, above=0)
        check_choice('target', self.target, TARGETS)
        check_integer('seed', self.seed)
        check_integer('max_detections', self.max_detections, low=1)


@dataclass(frozen=True)
class ClassPoints:
    """The operating points of a class.

    Attributes:
        name: Of the class.
        category_id: Its id in the annotations; None for all classes together.
        objects: Objects that count.
        detections: Detections that count.
        f_beta: Of the best F-beta score.
        lrp: Of the smallest LRP error.
        reason: Why there are no points, or ''.
    """

    name: str
    category_id: int | str | None
    objects: int
    detections: int
    f_beta: OperatingPoint | None
    lrp: OperatingPoint | None
    reason: str = ''


@dataclass(frozen=True)
class Study:
    """Everything that a report on a file of detections says.

    Attributes:
        detections: The file of detections.
        annotations: The file of annotations.
        settings: How they were judged.
        found: The detections.
        matches: Of each class name, at the IoU threshold and at any overlap.
        classes: The operating points of each class.
        overall: Those of one threshold for all classes.
        calibration: None where there is nothing to fit or to judge on.
        thresholds: ``thresholds.json`` of other images, to be judged on these; None without one.
        given: What those thresholds give.
        notes: What a reader has to know, in sentences.
    """

    detections: Path
    annotations: Path
    settings: Settings
    found: list[dict[str, Any]]
    matches: Mapping[str, ClassMatches]
    classes: list[ClassPoints]
    overall: ClassPoints
    calibration: Calibration | None
    thresholds: Path | None = None
    given: Rows = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """What the given thresholds give; without any, those chosen and what they give."""
        points: dict[str, Any] = {
            'classes': {one.name: _as_json(one) for one in self.classes},
            'all_classes': _as_json(self.overall),
        }
        if self.thresholds:
            points = {'given_thresholds': str(self.thresholds), 'at_given_thresholds': {
                name: {kind: kept and kept.as_json() for kind, kept in row.items()}
                for name, row in self.given.items()
            }}  # fmt: skip
        return {
            'detections': str(self.detections),
            'annotations': str(self.annotations),
            **asdict(self.settings),
            **points,
            'calibration': self.calibration and {
                'fitted_on_images': self.calibration.fitted_on,
                'judged_on_images': self.calibration.judged_on,
                'before': {key: _finite(self.calibration.before[key]) for key in WORTH},
                'after': {key: _finite(self.calibration.after[key]) for key in WORTH},
            },
            'notes': self.notes,
        }  # fmt: skip

    def calibrated_detections(self) -> list[dict[str, Any]]:
        """The detections with calibrated scores, in the order of their scores before.

        Calibrated scores are equal where a curve is level: in this order an evaluation that sorts
        the detections of an image stably still takes the one first that scored more.
        """
        if self.calibration is None:
            return []
        names = {one.category_id: one.name for one in self.classes}
        calibrator = self.calibration.calibrator
        return [
            {**one, 'score': float(calibrator(one['score'], names[one['category_id']]))}
            for one in sorted(self.found, key=lambda one: -one['score'])
        ]


def study(
    detections: Path, annotations: Path, settings: Settings, thresholds: Path | None = None
) -> Study:
    """Judge a file of detections.

    Args:
        detections: JSON list in COCO's format, as ``CocoMetric`` writes with ``outfile_prefix``.
        annotations: COCO JSON of the images that the detections are of.
        settings: How to judge.
        thresholds: ``thresholds.json`` of other images, to be judged on these.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what it should be, or does not belong to the other.
    """
    truth = ground_truth(str(annotations))
    found = read_detections(detections, truth)
    rows = truth.rows(found)
    class_ids = dict(zip(truth.class_names, truth.category_index, strict=True))
    given = thresholds and given_thresholds.read(thresholds, class_ids, asdict(settings))
    by_index = match(
        truth.coco,
        rows,
        range(len(class_ids)),
        [settings.iou_threshold, ANY_OVERLAP],
        settings.max_detections,
    )
    matches = dict(zip(class_ids, by_index.values(), strict=True))
    classes = [
        _points(name, class_ids[name], *found.at(0), found.num_truths, settings)
        for name, found in matches.items()
    ]
    image_ids = list(truth.image_index)
    chosen = first_half(image_ids, settings.seed)
    notes = [f'{annotations}: {oddity}.' for oddity in contents(annotations).oddities]
    if not given:
        notes += notes_on_classes({one.name: one.reason for one in classes})
    notes += note_on_few_objects({one.name: one.objects for one in classes})
    if outside := outside_their_images(rows, truth):
        notes.append(
            f'{outside} of {len(found)} detections lie outside their image: they may be of another '
            'data set, or not in pixels of the original image.'
        )
    worth_keeping = min((one.lrp.threshold for one in classes if one.lrp), default=0.0)
    images, cap = images_at_a_cap(rows, truth, worth_keeping)
    if images:
        notes.append(
            f'{images} of {len(image_ids)} images have exactly {cap} detections: the '
            "detector's max_per_img may cut others."
        )
    if given:
        notes += given_thresholds.notes(given, detections, matches)
    calibration = None
    if len(image_ids) < 2:
        notes.append(
            'Scores are not calibrated: there is one image, and a calibration is judged on other '
            'images than it is fitted on.'
        )
    elif not any(len(one.of_images(chosen).at(0)[0]) for one in matches.values()):
        notes.append('Scores are not calibrated: no detection is of an image to fit on.')
    else:
        about = {
            'target': settings.target,
            'iou_threshold': settings.iou_threshold,
            'fitted_on_images': [i for i, c in zip(image_ids, chosen, strict=True) if c],
        }
        calibration = calibrate(
            matches, class_ids, chosen, settings.target, settings.iou_threshold, about
        )
        notes += notes_on_calibration(matches, chosen)
    return Study(
        detections, annotations, settings, found, matches, classes,
        _overall(list(matches.values()), settings), calibration, thresholds,
        given_thresholds.judged(given, matches) if given else {}, notes,
    )  # fmt: skip


def _points(
    name: str,
    category_id: int | str | None,
    scores: Any,
    ious: Any,
    num_truths: int,
    settings: Settings,
) -> ClassPoints:
    lrp = best_lrp(scores, ious, num_truths, settings.iou_threshold)
    reason = ''
    if not num_truths:
        reason = 'no objects'
    elif not len(scores):
        reason = 'no detections'
    elif lrp is None:
        reason = 'no detection is right'
    return ClassPoints(
        name, category_id, num_truths, len(scores),
        best_f_beta(scores, ious, num_truths, settings.beta), lrp, reason,
    )  # fmt: skip


def _overall(matches: Sequence[ClassMatches], settings: Settings) -> ClassPoints:
    """One threshold for all classes: their detections and objects counted together."""
    pairs = [one.at(0) for one in matches]
    scores, ious = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    order = np.argsort(-scores, kind='stable')
    objects = sum(one.num_truths for one in matches)
    return _points('all classes', None, scores[order], ious[order], objects, settings)


def _as_json(points: ClassPoints) -> dict[str, Any]:
    content: dict[str, Any] = {
        'objects': points.objects,
        'detections': points.detections,
        'f_beta': points.f_beta and points.f_beta._asdict(),
        'lrp': points.lrp and points.lrp._asdict(),
    }
    if points.category_id is not None:
        content = {'category_id': points.category_id, **content}
    return {**content, 'reason': points.reason} if points.reason else content


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
