"""Detections of two runs side by side, on the images where they differ most."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmfocalx.compare.evaluation import Evaluation, ground_truth
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


def differing_pictures(first: Evaluation, second: Evaluation, number: int = 4) -> list[Picture]:
    """The images with the largest differences, half of them in favour of either run."""
    lost, total = zip(image_errors(first), image_errors(second), strict=True)
    errors = [
        np.divide(a, b, out=np.zeros_like(a), where=b > 0) for a, b in zip(lost, total, strict=True)
    ]
    difference = lost[0] - lost[1]
    order = np.argsort(difference)
    chosen = [*order[::-1][: (number + 1) // 2], *order[: number // 2]]
    truth = ground_truth(first.result['annotations'])
    image_ids = sorted(truth.get_img_ids())
    pictures = []
    for index in dict.fromkeys(int(one) for one in chosen):
        if difference[index] == 0:
            continue
        info = truth.load_imgs([image_ids[index]])[0]
        path = Path(first.result['images']) / info['file_name']
        if not path.is_file():
            continue
        pictures.append(
            Picture(
                info['file_name'],
                (float(errors[0][index]), float(errors[1][index])),
                (drawn(first, image_ids[index], path), drawn(second, image_ids[index], path)),
            )
        )
    return pictures


def image_errors(run: Evaluation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(I,) twice: numerator and denominator of each image's LRP, at the optimal thresholds."""
    matches = list(run.matches.items())
    lost = np.zeros(len(matches[0][1].truths))
    total = np.zeros_like(lost)
    for name, one in matches:
        keep = one.counted[0] & (one.scores >= run.quality[f'oLRP_threshold/{name}'])
        images, ious = one.images[keep], one.ious[0, keep]
        hit = ious > 0
        true = np.bincount(images[hit], minlength=len(lost))
        wrong = np.bincount(images[~hit], minlength=len(lost))
        misplaced = np.bincount(images[hit], (1 - ious[hit]) / (1 - _STRICT), len(lost))
        missed = one.truths - true
        lost += misplaced + wrong + missed
        total += true + wrong + missed
    return lost, total


def drawn(run: Evaluation, image_id: int, path: Path) -> str:
    """A data URI of the image with right, wrong and missed boxes."""
    with Image.open(path) as image:
        scale = _SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        canvas = image.convert('RGB').resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    found = run.detections[run.detections[:, 0] == image_id]
    truth = ground_truth(run.result['annotations'])
    objects = truth.load_anns(truth.get_ann_ids(img_ids=[image_id]))
    names = {one['id']: one['name'] for one in truth.dataset['categories']}
    taken: set[int] = set()
    for row in found[np.argsort(-found[:, 5], kind='stable')]:
        name = names[int(row[6])]
        if not row[5] >= run.quality.get(f'oLRP_threshold/{name}', np.nan):
            continue
        target = _match(row, objects, taken)
        if target is not None:
            taken.add(target)
        _box(pen, row[1:5] * scale, WRONG if target is None else RIGHT, f'{name} {row[5]:.2f}')
    for index, one in enumerate(objects):
        if index not in taken and not one.get('iscrowd'):
            box = np.array(one['bbox']) * scale
            _box(pen, box, MISSED, f'missed {names[one["category_id"]]}')
    buffer = io.BytesIO()
    canvas.save(buffer, 'JPEG', quality=78, optimize=True)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _match(row: NDArray[np.float64], objects: list[dict[str, Any]], taken: set[int]) -> int | None:
    overlaps = {
        index: float(iou(row[1:5], np.array(one['bbox'], dtype=np.float64)))
        for index, one in enumerate(objects)
        if one['category_id'] == int(row[6]) and index not in taken
    }
    best = max(overlaps, key=overlaps.__getitem__, default=None)
    return best if best is not None and overlaps[best] >= _STRICT else None


def _box(pen: ImageDraw.ImageDraw, box: NDArray[np.float64], colour: str, text: str) -> None:
    x, y, width, height = (float(value) for value in box)
    pen.rectangle((x, y, x + width, y + height), outline='black', width=4)
    pen.rectangle((x + 1, y + 1, x + width - 1, y + height - 1), outline=colour, width=2)
    font = ImageFont.load_default(size=13)
    place = (x + 2, max(0.0, y - 15))
    pen.rectangle(pen.textbbox(place, text, font=font), fill='black')
    pen.text(place, text, fill=colour, font=font)
