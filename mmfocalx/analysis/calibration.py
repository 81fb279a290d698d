"""Isotonic calibration of a detector's scores, judged on other images than it was fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from mmfocalx.analysis.calibrator import Breakpoints, Calibrator
from mmfocalx.evaluation.matching import ClassMatches
from mmfocalx.evaluation.metric import score_quality

TARGETS = {'precision': 0, 'iou': 1}
"""What a calibrated score promises, and the level of the matches that it is of: the probability of
a match at the IoU threshold, or the IoU itself."""
FEW = 50
"""With fewer detections than this, a curve is rough."""


@dataclass(frozen=True)
class Calibration:
    """A calibrator and what it is worth on images that it has not seen.

    Attributes:
        calibrator: The curves.
        fitted_on: Images that they were fitted on.
        judged_on: The other images.
        before: :func:`score_quality` of the other images.
        after: The same with calibrated scores.
        raw: Matches in the other images by class.
        calibrated: The same with calibrated scores.
    """

    calibrator: Calibrator
    fitted_on: int
    judged_on: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    raw: Mapping[str, ClassMatches]
    calibrated: Mapping[str, ClassMatches]


def first_half(image_ids: Sequence[int], seed: int = 0) -> NDArray[np.bool_]:
    """(I,) True for the half of the images that a calibrator is fitted on.

    The order of hashes of seed and id decides, so that it is the same everywhere; one image more
    is judged where the number is odd.
    """
    order = sorted(
        range(len(image_ids)),
        key=lambda k: hashlib.sha256(f'{seed}/{image_ids[k]}'.encode()).digest(),
    )
    chosen = np.zeros(len(image_ids), dtype=bool)
    chosen[order[: len(order) // 2]] = True
    return chosen


def calibrate(
    matches: Mapping[str, ClassMatches],
    class_ids: Mapping[str, int | str],
    chosen: NDArray[np.bool_],
    target: str,
    iou_threshold: float,
    about: Mapping[str, Any],
) -> Calibration:
    """Fit a curve for each class on some images, and judge them on the others.

    Post-hoc isotonic regression of each class, Kuzucu et al. 2024, https://arxiv.org/abs/2405.20459,
    section 5, where it outdoes every loss made for calibration.

    Args:
        matches: Of each class name, at ``iou_threshold`` and at any overlap.
        class_ids: Of each class name.
        chosen: (I,) True for the images to fit on.
        target: One of :data:`TARGETS`; the paper's is 'iou'.
        iou_threshold: What the first level of the matches was made with.
        about: What a reader of the calibrator's file should know beside.
    """
    curves = {}
    for name, found in matches.items():
        scores, ious = found.of_images(chosen).at(TARGETS[target])
        if len(scores):
            wanted = ious > 0 if target == 'precision' else ious
            curves[name] = fitted(scores, wanted.astype(np.float64), class_ids[name])
    calibrator = Calibrator(curves, about)
    raw = {name: found.of_images(~chosen) for name, found in matches.items()}
    calibrated = {
        name: replace(found, scores=calibrator(found.scores, name)) for name, found in raw.items()
    }
    return Calibration(
        calibrator=calibrator,
        fitted_on=int(chosen.sum()),
        judged_on=int((~chosen).sum()),
        before=score_quality(raw, iou_threshold, classwise=True),
        after=score_quality(calibrated, iou_threshold, classwise=True),
        raw=raw,
        calibrated=calibrated,
    )


def fitted(
    scores: NDArray[np.float64], wanted: NDArray[np.float64], category_id: int | str
) -> Breakpoints:
    """scikit-learn's isotonic regression of (D,) wanted values on (D,) scores."""
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds='clip').fit(scores, wanted)
    return Breakpoints(category_id, curve.X_thresholds_, curve.y_thresholds_)
