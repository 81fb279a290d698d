"""Detections of two runs side by side, on the images where they differ most."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmfocalx.compare.comparison import Group
from mmfocalx.compare.evaluation import Evaluation
from mmfocalx.evaluation.annotations import can_be_drawn, ground_truth
from mmfocalx.evaluation.matching import iou

RIGHT, WRONG, MISSED = '#3ddc84', '#ff5a4d', '#ffd400'
_SIDE = 420
_STRICT = 0.5


class Picture(NamedTuple):
    """An image with two runs' detections.

    Attributes:
        file_name: Name of the image.
        errors: LRP error of each on this image alone.
        sources: A data URI of each.
    """

    file_name: str
    errors: tuple[float, float]
    sources: tuple[str, str]


class ShownPair(NamedTuple):
    """Two runs to show side by side.

    Attributes:
        labels: Of their configs.
        seed: Of both.
        evaluations: Of both.
    """

    labels: tuple[str, str]
    seed: int
    evaluations: tuple[Evaluation, Evaluation]


def pair_to_show(group: Group) -> ShownPair | None:
    """The baseline and the best of the others, with the first seed that both have."""
    baseline = group.baseline
    if baseline is None or not group.others:
        return None
    best = max(group.others, key=lambda variant: variant.ap['mAP'].mean)
    seed = best.differences['mAP'].seeds[0]
    (first,), (second,) = baseline.of_seeds([seed]), best.of_seeds([seed])
    return ShownPair((baseline.label, best.label), seed, (first, second))


def differing_pictures(first: Evaluation, second: Evaluation, number: int = 4) -> list[Picture]:
    """The images with the largest differences, half of them in favour of either run."""
    lost, total = zip(image_errors(first), image_errors(second), strict=True)
    errors = [
        np.divide(a, b, out=np.zeros_like(a), where=b > 0) for a, b in zip(lost, total, strict=True)
    ]
    difference = lost[0] - lost[1]
    order = [int(index) for index in np.argsort(difference) if difference[index] != 0]
    chosen = [*order[::-1][: (number + 1) // 2], *order[: number // 2]]
    truth = ground_truth(first.result['annotations']).coco
    image_ids = sorted(truth.get_img_ids())
    pictures = []
    for index in dict.fromkeys(chosen):
        (info,) = truth.load_imgs([image_ids[index]])
        path = Path(first.result['images']) / info['file_name']
        if path.is_file():
            sides = (drawn(run, image_ids[index], path) for run in (first, second))
            worth = float(errors[0][index]), float(errors[1][index])
            pictures.append(Picture(info['file_name'], worth, (next(sides), next(sides))))
    return pictures


def image_errors(run: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(I,) twice: numerator and denominator of each image's LRP, at the optimal thresholds."""
    lost = np.zeros(len(next(iter(run.matches.values())).truths))
    total = np.zeros_like(lost)
    for name, found in run.matches.items():
        above = found.counted[0] & (found.scores >= run.quality[f'oLRP_threshold/{name}'])
        images, ious = found.images[above], found.ious[0, above]
        hit = ious > 0
        true = np.bincount(images[hit], minlength=len(lost))
        wrong = np.bincount(images[~hit], minlength=len(lost))
        misplaced = np.bincount(images[hit], (1 - ious[hit]) / (1 - _STRICT), len(lost))
        missed = found.truths - true
        lost += misplaced + wrong + missed
        total += true + wrong + missed
    return lost, total


def drawn(run: Evaluation, image_id: int, path: Path) -> str:
    """A data URI of the image with right, wrong and missed boxes."""
    with Image.open(path) as image:
        scale = _SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = image.convert('RGB').resize(size, Image.Resampling.BICUBIC)
    found = run.detections[run.detections[:, 0] == image_id]
    truth = ground_truth(run.result['annotations']).coco
    names = {category['id']: category['name'] for category in truth.dataset['categories']}
    objects = [
        annotation
        for annotation in truth.load_anns(truth.get_ann_ids(img_ids=[image_id]))
        if can_be_drawn(annotation['bbox'])
    ]
    taken: set[int] = set()
    for row in found[np.argsort(-found[:, 5], kind='stable')]:
        name = names.get(int(row[6]), '')
        if not row[5] >= run.quality.get(f'oLRP_threshold/{name}', np.nan):
            continue
        target = _match(row, objects, taken)
        if target is not None:
            taken.add(target)
        if can_be_drawn(row[1:5]):
            colour, word = (WRONG, 'wrong ') if target is None else (RIGHT, '')
            _box(canvas, row[1:5] * scale, colour, f'{word}{_short(name)} {row[5]:.2f}')
    for index, annotation in enumerate(objects):
        if index not in taken and not annotation.get('iscrowd'):
            box = np.array(annotation['bbox']) * scale
            _box(canvas, box, MISSED, f'missed {_short(names[annotation["category_id"]])}')
    buffer = io.BytesIO()
    canvas.save(buffer, 'JPEG', quality=78, optimize=True)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _short(name: str, length: int = 14) -> str:
    return name if len(name) <= length else f'{name[: length - 1]}…'


def _match(row: NDArray[np.float64], objects: list[dict[str, Any]], taken: set[int]) -> int | None:
    overlaps = {
        index: float(iou(row[1:5], np.array(annotation['bbox'], dtype=np.float64)))
        for index, annotation in enumerate(objects)
        if annotation['category_id'] == int(row[6]) and index not in taken
    }
    best = max(overlaps, key=overlaps.__getitem__, default=None)
    return best if best is not None and overlaps[best] >= _STRICT else None


def _box(canvas: Image.Image, box: NDArray[np.float64], colour: str, text: str) -> None:
    x, y, width, height = (float(value) for value in box)
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((x, y, x + width, y + height), outline='black', width=4)
    pen.rectangle((x + 1, y + 1, x + width - 1, y + height - 1), outline=colour, width=2)
    font = ImageFont.load_default(size=13)
    at_most = canvas.width - font.getlength(text) - 1
    place = (max(0.0, min(x + 2, at_most)), max(0.0, y - 15))
    pen.rectangle(pen.textbbox(place, text, font=font), fill='black')
    pen.text(place, text, fill=colour, font=font)
