"""Detections made at random, and the score-quality numbers by counting."""

import contextlib
import io
import json
import math

import numpy as np
from pycocotools.coco import COCO as ReferenceCOCO
from pycocotools.cocoeval import COCOeval as ReferenceEval

CLASSES = ('bird', 'cat', 'rare')


def scene(seed: int = 0, images: int = 12) -> tuple[dict, list[dict]]:
    """A random ground truth with a crowd box and odd ids, and detections near it."""
    rng = np.random.default_rng(seed)
    truth = {
        'images': [{'id': 7 * i + 3, 'width': 100, 'height': 100, 'file_name': f'{i}.jpg'}
                   for i in range(images)],
        'annotations': [],
        'categories': [{'id': 5, 'name': 'bird'}, {'id': 2, 'name': 'cat'},
                       {'id': 9, 'name': 'rare'}],
    }  # fmt: skip
    found = []
    for image in truth['images']:
        for _ in range(rng.integers(0, 5)):
            x, y = rng.uniform(0, 60, 2)
            w, h = rng.uniform(10, 40, 2)
            category = int(rng.choice([5, 2]))
            truth['annotations'].append({
                'id': len(truth['annotations']), 'image_id': image['id'], 'area': w * h,
                'category_id': category, 'bbox': [x, y, w, h], 'iscrowd': int(rng.random() < 0.1),
            })  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 5, 4)
                found.append({
                    'image_id': image['id'],
                    'category_id': category if rng.random() < 0.8 else int(rng.choice([5, 2])),
                    'bbox': [x + shift[0], y + shift[1], max(w + shift[2], 1),
                             max(h + shift[3], 1)],
                    'score': int(rng.integers(100)) / 100 + 0.005,  # never on a bin's edge
                })  # fmt: skip
    return truth, found


def rows(found: list[dict]) -> np.ndarray:
    return np.array(
        [[d['image_id'], *d['bbox'], d['score'], d['category_id']] for d in found]
    ).reshape(-1, 7)


def quiet_reference(truth: dict, found: list[dict], thresholds: list[float]) -> ReferenceEval:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = ReferenceCOCO()
        reference.dataset = json.loads(json.dumps(truth))
        for one in reference.dataset['annotations']:
            one['id'] += 1  # pycocotools takes id 0 for "no match"
        reference.createIndex()
        evaluation = ReferenceEval(reference, reference.loadRes(found), 'bbox')
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ['all']
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    return evaluation


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def by_hand(truth: dict, found: list[dict], category: int, threshold: float):
    """(score, IoU or 0) of every counted detection, and the number of objects, with pycocotools'
    matches."""
    evaluation = quiet_reference(truth, found, [threshold])
    objects = {one['id'] + 1: one for one in truth['annotations']}
    pairs = []
    for cell in evaluation.evalImgs:
        if cell is None or cell['category_id'] != category:
            continue
        for k, detection_id in enumerate(cell['dtIds']):
            if cell['dtIgnore'][0][k]:
                continue
            detection = found[detection_id - 1]
            target = objects.get(int(cell['dtMatches'][0][k]))
            pairs.append(
                (detection['score'], overlap(detection['bbox'], target['bbox']) if target else 0.0)
            )
    total = sum(o['category_id'] == category and not o['iscrowd'] for o in objects.values())
    return pairs, total


def brute_lrp(pairs, total: int, tau: float = 0.5) -> tuple[float, ...]:
    """Every score as the threshold, counted afresh."""
    best = (1.0, math.nan, math.nan, 1.0, math.nan)
    for threshold in sorted({score for score, _ in pairs}):
        kept = [iou for score, iou in pairs if score >= threshold]
        true = [iou for iou in kept if iou > 0]
        wrong, missed = len(kept) - len(true), total - len(true)
        if not true:
            continue
        error = (sum((1 - iou) / (1 - tau) for iou in true) + wrong + missed) / (
            len(true) + wrong + missed
        )
        if error < best[0]:
            best = (error, sum(1 - iou for iou in true) / len(true), wrong / len(kept),
                    missed / total, threshold)  # fmt: skip
    return best


def brute_ece(pairs, targets, bins: int = 25) -> float:
    total = 0.0
    for j in range(bins):
        inside = [
            k for k, (score, _) in enumerate(pairs)
            if j / bins < score <= (j + 1) / bins or (j == 0 and score == 0)
        ]  # fmt: skip
        if inside:
            score = sum(pairs[k][0] for k in inside) / len(inside)
            target = sum(targets[k] for k in inside) / len(inside)
            total += len(inside) / len(pairs) * abs(score - target)
    return total
