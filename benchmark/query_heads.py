"""The whole loss step of DINO's head, the matching included, beside mmdet's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmark.devices import DEVICES, Device
from benchmark.heads import (
    CLASSES,
    OBJECTS,
    ROUNDS,
    THREADS,
    HeadCase,
    Setting,
    build,
    changes,
    measure_heads,
    sum_of,
    watches_of,
)
from benchmark.images import made_up_objects, metas
from benchmark.steps import Step

QUERY_HEADS = ('DINOHead',)
LAYERS, QUERIES = 6, 900
GROUPS = 6
"""Groups of denoising queries, each with two for an object."""
CONFIG: dict[str, Any] = {
    'embed_dims': 8, 'num_pred_layer': LAYERS + 1, 'as_two_stage': True,
    'sync_cls_avg_factor': True,
    'loss_bbox': {'type': 'L1Loss', 'loss_weight': 5.0},
    'loss_iou': {'type': 'GIoULoss', 'loss_weight': 2.0},
    'train_cfg': {
        'assigner': {
            'type': 'HungarianAssigner',
            'match_costs': [
                {'type': 'FocalLossCost', 'weight': 2.0},
                {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
                {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0},
            ],
        },
    },
}  # fmt: skip


def plan_query_heads(
    device: str,
    image: tuple[int, int] | None = None,
    classes: Sequence[int] = CLASSES,
    threads: Sequence[int] = THREADS,
    objects: int = OBJECTS,
) -> list[HeadCase]:
    """The cases to measure; the size of the images has no influence."""
    height, width = image or ((800, 1344) if device == 'cuda' else (320, 320))
    return [
        HeadCase(head, classes[-1], height, width, images=2, objects=objects, threads=threads[0])
        for head in QUERY_HEADS
    ]


def measure_query_heads(
    case: HeadCase, rounds: int = ROUNDS, device: Device = DEVICES['cpu']
) -> dict[str, Any]:
    """Times, peak memory and host waits of the loss step in each setting, run in turn."""
    return measure_heads(case, rounds, device, QueryStep)


class QueryStep:
    """Losses and gradients by the outputs of a decoder, with watches on the parts."""

    def __init__(self, case: HeadCase, setting: Setting, device: Device) -> None:
        self.head = build({**CONFIG, **changes(case, setting)}).to(device.name)
        denoising = 2 * GROUPS * case.objects
        g = torch.Generator().manual_seed(0)

        def made_up(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g).to(device.name)

        decoder = LAYERS, case.images, denoising + QUERIES
        encoder = case.images, QUERIES
        outputs = (
            made_up(*decoder, case.classes), made_up(*decoder, 4).sigmoid(),
            made_up(*encoder, case.classes), made_up(*encoder, 4).sigmoid(),
        )  # fmt: skip
        self.outputs = [output.requires_grad_() for output in outputs]
        groups = {'num_denoising_queries': denoising, 'num_denoising_groups': GROUPS}
        self.batch = made_up_objects(case, device.name), metas(case), groups
        self.step = Step(setting.name, self.run, setting.is_peer)
        self.watches = watches_of(self.head, device)

    def run(self) -> tuple[Tensor, ...]:
        """The sum of the losses and its gradients."""
        for watch in self.watches.values():
            watch.begin_step()
        total = sum_of(self.head.loss_by_feat(*self.outputs, *self.batch))
        return total.detach(), *torch.autograd.grad(total, self.outputs)
