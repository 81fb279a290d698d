"""Made-up images: the outputs of a head on them, and what is annotated in them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """How many images of what size, and the objects in each."""

    @property
    def images(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def objects(self) -> int: ...
    @property
    def classes(self) -> int: ...


def made_up_batch(
    head: Any, case: Images, channels: int, strides: Sequence[int], device: str
) -> tuple[list[list[Tensor]], tuple[list[Any], list[dict[str, Any]]]]:
    """Outputs of a head as leaves, and annotations with their meta information."""
    g = torch.Generator().manual_seed(0)
    features = [
        torch.randn(
            case.images, channels, -(-case.height // stride), -(-case.width // stride), generator=g
        ).to(device)
        for stride in strides
    ]
    with torch.no_grad():
        outputs = head(features)
    leaves = [[level.detach().requires_grad_() for level in levels] for levels in outputs]
    return leaves, (made_up_objects(case, device), metas(case))


def made_up_objects(case: Images, device: str) -> list[Any]:
    """Made-up boxes and labels of each image."""
    instance_data = importlib.import_module('mmengine.structures').InstanceData
    g = torch.Generator().manual_seed(1)
    limit = torch.tensor([case.width, case.height])
    of_images = []
    for _ in range(case.images):
        corner = torch.rand(case.objects, 2, generator=g) * limit * 0.7
        side = torch.rand(case.objects, 2, generator=g) * limit * 0.3
        boxes = torch.cat([corner, corner + side.clamp(min=8)], 1)
        labels = torch.randint(0, case.classes, (case.objects,), generator=g)
        of_images.append(instance_data(bboxes=boxes.to(device), labels=labels.to(device)))
    return of_images


def metas(case: Images) -> list[dict[str, Any]]:
    """Meta information of each image."""
    shape = case.height, case.width
    return [
        {
            'img_shape': shape,
            'pad_shape': shape,
            'batch_input_shape': shape,
            'ori_shape': shape,
            'scale_factor': (1.0, 1.0),
        }
        for _ in range(case.images)
    ]
