"""COCO's matching of detections to objects, one by one, as Python floats."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """What detections of a class that score at least a threshold are worth."""

    right: int
    wrong: int
    truths: int
    misplaced: float

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / self.truths

    def f_beta(self, beta: float) -> float:
        if not self.right:
            return 0.0
        squared = beta * beta
        return (
            (1 + squared) * self.precision * self.recall / (squared * self.precision + self.recall)
        )

    def lrp(self, iou_threshold: float) -> float:
        missed = self.truths - self.right
        lost = self.misplaced / (1 - iou_threshold) + self.wrong + missed
        return lost / (self.right + self.wrong + missed)


def overlap(a: list[float], b: list[float], crowd: bool) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - shared)


def outcomes(
    truth: dict, found: list[dict], category: int, iou_threshold: float
) -> list[tuple[int, float, float]]:
    """Image, score and IoU (0 for a wrong one) of each detection that counts."""
    listed = []
    for image in truth['images']:
        objects = [
            one for one in truth['annotations']
            if one['image_id'] == image['id'] and one['category_id'] == category
        ]  # fmt: skip
        own = [
            one for one in found
            if one['image_id'] == image['id'] and one['category_id'] == category
        ]  # fmt: skip
        taken: set[int] = set()
        for one in sorted(own, key=lambda d: -d['score']):
            best, index = 0.0, -1
            for k, other in enumerate(objects):
                iou = overlap(one['bbox'], other['bbox'], crowd=False)
                if not other['iscrowd'] and k not in taken and iou >= max(best, iou_threshold):
                    best, index = iou, k
            if index >= 0:
                taken.add(index)
                listed.append((image['id'], one['score'], best))
                continue
            crowds = [other['bbox'] for other in objects if other['iscrowd']]
            if not any(overlap(one['bbox'], box, crowd=True) >= iou_threshold for box in crowds):
                listed.append((image['id'], one['score'], 0.0))
    return listed


def counts_at(
    truth: dict, found: list[dict], category: int, iou_threshold: float, threshold: float
) -> Counts:
    """Match only what scores at least the threshold, and count."""
    kept = [one for one in found if one['score'] >= threshold]
    listed = outcomes(truth, kept, category, iou_threshold)
    ious = [iou for _, _, iou in listed if iou > 0]
    truths = sum(
        one['category_id'] == category and not one['iscrowd'] for one in truth['annotations']
    )
    return Counts(len(ious), len(listed) - len(ious), truths, sum(1 - iou for iou in ious))
