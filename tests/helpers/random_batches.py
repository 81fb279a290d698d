"""Random images for comparisons of targets: ties, identical boxes, empty and padded images."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from helpers.small_heads import SIZE

NUM_CLASSES = 3


class Batch(NamedTuple):
    objects: list[InstanceData]
    metas: list[dict]
    ignored: list[InstanceData] | None


def random_boxes(rng: random.Random, count: int) -> Tensor:
    """Boxes of which some lie on the grid of the anchors, repeat another or leave the image."""
    boxes: list[list[float]] = []
    for _ in range(count):
        kind = rng.choice(['free', 'free', 'grid', 'repeated', 'nearly', 'tiny', 'empty', 'large'])
        if kind in ('repeated', 'nearly') and boxes:
            shift = 0.0 if kind == 'repeated' else rng.choice([1e-5, 1e-3, 0.1])
            boxes.append([value + shift for value in rng.choice(boxes)])
            continue
        if kind == 'grid':
            x, y = (8.0 * rng.randint(0, 9) for _ in 'xy')
            w, h = (16.0 * rng.randint(1, 4) for _ in 'xy')
        else:
            x, y = (rng.uniform(-5, SIZE - 10) for _ in 'xy')
            largest = {'tiny': 3.0, 'empty': 0.0, 'large': 3.0 * SIZE}.get(kind, 50.0)
            w, h = (rng.uniform(min(2.0, largest), largest) for _ in 'xy')
        boxes.append([x, y, x + w, y + h])
    return torch.tensor(boxes, dtype=torch.float).view(-1, 4)


def random_batch(seed: int, *, ignore: bool = False, images: int | None = None) -> Batch:
    rng = random.Random(seed)
    images = rng.choice([1, 2, 3]) if images is None else images
    objects, metas, ignored = [], [], []
    for _ in range(images):
        boxes = random_boxes(rng, rng.choice([0, 1, 2, 5, 12]))
        labels = torch.tensor([rng.randrange(NUM_CLASSES) for _ in boxes], dtype=torch.long)
        objects.append(InstanceData(bboxes=boxes, labels=labels))
        left_out = [InstanceData(bboxes=random_boxes(rng, rng.choice([0, 1, 3])))]
        ignored.append(rng.choice([*left_out, *left_out, None]))
        pad = tuple(rng.choice([SIZE, SIZE, SIZE - 32, SIZE - 40]) for _ in 'hw')
        shape = tuple(side - rng.choice([0, 0, 7]) for side in pad)
        metas.append(dict(img_shape=shape, pad_shape=pad, scale_factor=(1, 1)))
    return Batch(objects, metas, ignored if ignore else None)
