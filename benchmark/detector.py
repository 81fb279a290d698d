"""The whole iteration of a detector: RetinaNet with ResNet-50, trained on made-up images."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.devices import DEVICES, Device
from benchmark.heads import (
    CONFIGS,
    HEADS,
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

RETINA = HEADS[0]
CHANNELS = 256
ROUNDS = 5
BACKBONE = {
    'type': 'ResNet', 'depth': 50, 'num_stages': 4, 'out_indices': (0, 1, 2, 3),
    'frozen_stages': 1, 'norm_cfg': {'type': 'BN', 'requires_grad': True}, 'norm_eval': True,
}  # fmt: skip
NECK = {
    'type': 'FPN', 'in_channels': [256, 512, 1024, 2048], 'out_channels': CHANNELS,
    'start_level': 1, 'add_extra_convs': 'on_input', 'num_outs': 5,
}  # fmt: skip


@dataclass(frozen=True)
class DetectorCase(HeadCase):
    """A detector, in single precision or with autocast to bfloat16."""

    autocast: bool = False

    @property
    def name(self) -> str:
        return f'{super().name}-{"bf16" if self.autocast else "fp32"}'


def plan_detectors(device: str, image: tuple[int, int] | None = None) -> list[DetectorCase]:
    """The cases to measure."""
    height, width = image or ((800, 1344) if device == 'cuda' else (320, 320))
    images = 8 if device == 'cuda' else 2
    return [
        DetectorCase(RETINA, 80, height, width, images, autocast=autocast)
        for autocast in (False, True)
    ]


def measure_detector(
    case: DetectorCase, rounds: int = ROUNDS, device: Device = DEVICES['cpu']
) -> dict[str, Any]:
    """Times, peak memory and host waits of an iteration in each setting, run in turn."""

    def make(head: HeadCase, setting: Setting, device: Device) -> Iteration:
        return Iteration(case, setting, device)

    return measure_heads(case, rounds, device, make)


class Iteration:
    """Forward, backward and a step of SGD, with watches on the parts of the head's loss."""

    def __init__(self, case: DetectorCase, setting: Setting, device: Device) -> None:
        self.case, self.device = case, device.name
        head = {
            **CONFIGS[case.head], **changes(case, setting), 'in_channels': CHANNELS,
            'feat_channels': CHANNELS, 'stacked_convs': 4,
        }  # fmt: skip
        train_cfg = head.pop('train_cfg')
        config = {'type': 'RetinaNet', 'backbone': BACKBONE, 'neck': NECK, 'bbox_head': head}
        self.detector = build({**config, 'train_cfg': train_cfg}).to(device.name)
        self.optimizer = torch.optim.SGD(self.detector.parameters(), 1e-4, momentum=0.9)
        g = torch.Generator().manual_seed(2)
        shape = case.images, 3, case.height, case.width
        self.images = torch.randn(shape, generator=g).to(device.name)
        self.samples = samples(case, device.name)
        # The gradients of random weights differ in rounding alone; the heads' step compares them.
        self.step = Step(setting.name, self.run, is_peer=False)
        self.watches = watches_of(self.detector.bbox_head, device)

    def run(self) -> Tensor:
        """One iteration: the sum of the losses."""
        for watch in self.watches.values():
            watch.begin_step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.case.autocast):
            total = sum_of(self.detector.loss(self.images, self.samples))
        total.backward()
        self.optimizer.step()
        return total.detach()


def samples(case: HeadCase, device: str) -> list[Any]:
    """Annotated images as a detector takes them."""
    sample = importlib.import_module('mmdet.structures').DetDataSample
    of_images = []
    for instances, meta in zip(made_up_objects(case, device), metas(case), strict=True):
        of_images.append(sample(metainfo=meta))
        of_images[-1].gt_instances = instances
    return of_images
