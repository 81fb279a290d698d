"""Annotations of ten digits, and the configs that train on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CONFIGS = Path(__file__).parents[2] / 'configs'
RETINA = CONFIGS / 'retinanet/retinanet_r18-w16_fpn_focal_12e_digit-scenes.py'
FCOS = CONFIGS / 'fcos/fcos_r18-w16_fpn_focal_12e_digit-scenes.py'
SOFTMAX = CONFIGS / 'retinanet/retinanet_r18-w16_fpn_softmax-focal_12e_digit-scenes.py'
DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
COUNTS = (60, 30, 20, 10, 5, 4, 3, 2, 1, 1)


def write_annotations(path: Path) -> None:
    """Fifteen images of two sizes with 136 objects of ten classes, and two crowd regions."""
    rng = np.random.default_rng(0)
    images = [
        dict(id=k + 1, file_name=f'{k}.jpg', width=192 - 40 * (k % 2), height=192)
        for k in range(15)
    ]
    drawn = [label for label, number in enumerate(COUNTS) for _ in range(number)]
    objects = []
    for number, label in enumerate([*drawn, 0, 1]):
        width, height = rng.uniform(8, 70, 2)
        x, y = rng.uniform(0, 150 - width), rng.uniform(0, 190 - height)
        objects.append(
            dict(id=number + 1, image_id=number % 15 + 1, category_id=label + 1,
                 bbox=[x, y, width, height], area=width * height,
                 iscrowd=int(number >= len(drawn)))
        )  # fmt: skip
    categories = [dict(id=k, name=name) for k, name in enumerate(DIGITS, 1)]
    path.write_text(json.dumps(dict(images=images, annotations=objects, categories=categories)))
