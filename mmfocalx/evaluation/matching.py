"""Detections matched to ground truth, by hotcoco's COCO matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

ANY_OVERLAP = 1e-6
"""The IoU threshold that lets every overlapping box match ("IoU > 0")."""


@dataclass(frozen=True)
class ClassMatches:
    """The D detections of one class, best score first, matched at T IoU thresholds.

    Attributes:
        scores: (D,) descending.
        images: (D,) index of the image, among the sorted ids of all images.
        ious: (T, D) IoU with the object that the detection is matched to, 0 where there is none.
        counted: (T, D) False for a detection on an ignored (crowd) object: neither right nor wrong.
        truths: (I,) objects in each image, without the ignored ones.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    ious: NDArray[np.float64]
    counted: NDArray[np.bool_]
    truths: NDArray[np.int64]

    @property
    def num_truths(self) -> int:
        """Objects in all images."""
        return int(self.truths.sum())

    def at(self, level: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and IoUs of the detections that count at threshold number ``level``."""
        counted = self.counted[level]
        return self.scores[counted], self.ious[level, counted]

    def of_images(self, chosen: NDArray[np.bool_]) -> ClassMatches:
        """The matches in some images: (I,) True for those. The others seem to be empty."""
        keep = chosen[self.images]
        return ClassMatches(
            self.scores[keep],
            self.images[keep],
            self.ious[:, keep],
            self.counted[:, keep],
            np.where(chosen, self.truths, 0),
        )


def match(
    truth: COCO,
    detections: NDArray[np.float64],
    class_ids: Sequence[int],
    iou_thresholds: Sequence[float],
    max_detections: int = 100,
) -> dict[int, ClassMatches]:
    """Match detections to objects of their class and image, best score first, one to one.

    Args:
        truth: Ground truth, as of :class:`~mmfocalx.evaluation.ground_truth.GroundTruth`: ids that
            are whole numbers below 2^53, those of annotations all different.
        detections: (N, 7) rows of image id, x, y, width, height, score, class id.
        class_ids: Classes to match.
        iou_thresholds: The T thresholds.
        max_detections: Detections kept for each image and class.

    Returns:
        The matches of each class.
    """
    image_ids = np.array(sorted(truth.get_img_ids()), dtype=np.int64)
    cells = _matched_cells(truth, detections, class_ids, iou_thresholds, max_detections)
    levels = len(iou_thresholds)

    def joined(key: str, kind: type) -> NDArray[Any]:
        """(D,) or (T, D): one entry of all cells, side by side."""
        parts: list[NDArray[Any]] = [
            np.array(cell[key], dtype=kind) for cell in cells if len(cell['dtIds'])
        ]
        return np.concatenate(parts, axis=-1) if parts else np.zeros((levels, 0), dtype=kind)

    rows = joined('dtIds', int).reshape(-1) - 1
    matched, targets = joined('dtMatched', bool), joined('dtMatches', int)
    objects = truth.dataset['annotations'] or [{'id': 0, 'bbox': [0.0] * 4}]
    object_ids = np.array([one['id'] for one in objects])
    by_id = np.argsort(object_ids)
    place = np.searchsorted(object_ids[by_id], np.where(matched, targets, object_ids.min()))
    target_boxes = np.array([one['bbox'] for one in objects], dtype=np.float64)[by_id][place]
    ious = np.where(matched, iou(detections[rows, 1:5], target_boxes), 0.0)
    counted = ~joined('dtIgnore', bool)
    scores, classes = detections[rows, 5], detections[rows, 6].astype(np.int64)
    images = np.searchsorted(image_ids, detections[rows, 0])

    truths = {class_id: np.zeros(len(image_ids), dtype=np.int64) for class_id in class_ids}
    for cell in cells:
        index = np.searchsorted(image_ids, cell['image_id'])
        truths[cell['category_id']][index] = len(cell['gtIgnore']) - sum(cell['gtIgnore'])
    matches = {}
    for class_id in class_ids:
        own = np.flatnonzero(classes == class_id)
        own = own[np.argsort(-scores[own], kind='stable')]
        matches[class_id] = ClassMatches(
            scores[own], images[own], ious[:, own], counted[:, own], truths[class_id]
        )
    return matches


def _matched_cells(
    truth: COCO,
    detections: NDArray[np.float64],
    class_ids: Sequence[int],
    iou_thresholds: Sequence[float],
    max_detections: int,
) -> list[dict[str, Any]]:
    """What hotcoco matched, for each class and image that has a detection or an object."""
    evaluation = COCOeval(truth, truth.load_res(detections if len(detections) else []), 'bbox')
    params = evaluation.params
    params.cat_ids = list(class_ids)
    params.iou_thrs = list(iou_thresholds)
    params.max_dets = [max_detections]
    params.area_rng, params.area_rng_lbl = [[0.0, 1e10]], ['all']
    evaluation.params = params
    evaluation.evaluate()
    return [cell for cell in evaluation.eval_imgs if cell is not None]


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of x, y, width, height boxes, pair by pair: (..., 4) and (..., 4) to (...)."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
