"""The shipped detection configs: their names, what these say, and a step of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

import mmfocalx  # noqa: F401  (registers)

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.glob('*/*.py')
    if path.parts[-2] not in ('_base_', 'classification')
)
SMALL = [name for name in NAMES if 'r18-w16' in name or 'efficientnet-lite0' in name]
SIZE = 96
LAST_EPOCH = 11  # TOOD's head reads it and gives hard labels at first
OBJECTS = (1032, 538, 319, 264, 202, 177, 140, 131, 108, 120)
"""Objects of each class in the training split of the digit scenes."""


def parts(name: str) -> tuple[str, str, str]:
    """Detector, loss and data set in the name of a config."""
    detector, *_, loss, _schedule, data = Path(name).stem.split('_')
    return detector, loss, data


def class_alpha() -> list[float]:
    """Odds of 1:3, times the effective weight of a class (Cui et al. 2019, beta 0.999, mean 1)."""
    weights = [1 / (1 - 0.999**objects) for objects in OBJECTS]
    odds = [weight * len(weights) / sum(weights) / 3 for weight in weights]
    return [round(value / (1 + value), 4) for value in odds]


def build(name: str) -> Any:
    cfg = Config.fromfile(FOLDER / name)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def batch(num_classes: int, with_masks: bool = False) -> tuple[torch.Tensor, list[Any]]:
    """Two images of noise, with boxes of about the size of the digits."""
    g = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(2):
        corner = torch.rand(4, 2, generator=g) * 50
        side = torch.rand(4, 2, generator=g) * 25 + 15
        labels = torch.randint(0, num_classes, (4,), generator=g)
        shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
        sample = DetDataSample(metainfo=shape)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + side], 1), labels=labels
        )
        if with_masks:
            sample.gt_instances.masks = BitmapMasks(
                [box_mask(*box) for box in sample.gt_instances.bboxes.long().tolist()], SIZE, SIZE
            )
        samples.append(sample)
    return torch.randn(2, 3, SIZE, SIZE, generator=g), samples
