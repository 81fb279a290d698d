"""The whole loss step of a dense head, its targets included, beside mmdet's head."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.cases import main_losses
from benchmark.devices import DEVICES, Device
from benchmark.peers import peer
from benchmark.steps import Step
from benchmark.timing import interleaved, keep_freed_memory, prepare
from mmfocalx.losses.catalogue import classification_losses

HEADS = ('RetinaHead', 'FCOSHead')
STRIDES = (8, 16, 32, 64, 128)
CHANNELS = 8
"""Of the features; the losses do not see them."""
TOLERANCE = 1e-4
ROUNDS = 7
ASSIGNER = {
    'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0,
    'ignore_iof_thr': -1,
}  # fmt: skip
COMMON = {'in_channels': CHANNELS, 'feat_channels': CHANNELS, 'stacked_convs': 1}
CONFIGS: dict[str, dict[str, Any]] = {
    'RetinaHead': {
        **COMMON,
        'anchor_generator': {
            'type': 'AnchorGenerator', 'octave_base_scale': 4, 'scales_per_octave': 3,
            'ratios': [0.5, 1.0, 2.0], 'strides': list(STRIDES),
        },
        'loss_bbox': {'type': 'L1Loss'},
        'train_cfg': {
            'assigner': ASSIGNER, 'sampler': {'type': 'PseudoSampler'}, 'allowed_border': -1,
            'pos_weight': -1,
        },
    },
    'FCOSHead': {**COMMON, 'strides': list(STRIDES), 'norm_cfg': None},
}  # fmt: skip


@dataclass(frozen=True)
class HeadCase:
    """A head, its number of classes and a batch, measured with a number of CPU threads."""

    head: str
    classes: int
    height: int
    width: int
    images: int = 8
    objects: int = 8
    threads: int = 1

    @property
    def name(self) -> str:
        size = f'{self.images}x{self.height}x{self.width}'
        return f'{self.head}-{self.classes}-{size}-{self.objects}-{self.threads}'

    @property
    def record(self) -> dict[str, Any]:
        """The case as it stands in its file."""
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """A head and the loss that it is given; ``is_peer`` where both equal the first setting."""

    head: str
    loss: str
    arguments: tuple[tuple[str, Any], ...] = ()
    is_peer: bool = False

    @property
    def name(self) -> str:
        return f'{self.head}, {self.loss}' + ''.join(f', {k}={v}' for k, v in self.arguments)


def plan_heads(
    device: str, image: tuple[int, int] | None = None, quick: bool = False
) -> list[HeadCase]:
    """The cases to measure: on a GPU images of the usual size, on a CPU small ones."""
    height, width = image or ((800, 1344) if device == 'cuda' else (320, 320))
    return [
        HeadCase(head, classes, height, width, threads=threads)
        for head in HEADS
        for classes in ((80,) if quick else (3, 80))
        for threads in ((1,) if quick or device == 'cuda' else (1, 2))
    ]


def settings_of(head: str) -> Iterator[Setting]:
    """mmdet's head with its focal loss first; then our losses, and our head."""
    ours = f'{head}X'
    reference, *_ = main_losses()
    yield Setting(head, _in_mmdet(reference), is_peer=True)
    yield Setting(head, reference, is_peer=True)
    yield Setting(ours, _in_mmdet(reference), (('quality', 'none'),), is_peer=True)
    for name in main_losses():
        if classification_losses()[name].quality_aware:
            if 'tuple' in peer('mmdet', name).takes:
                yield Setting(ours, _in_mmdet(name))
            yield Setting(ours, name)


def _in_mmdet(loss: str) -> str:
    return loss.removesuffix('X')


def measure_heads(
    case: HeadCase, rounds: int = ROUNDS, device: Device = DEVICES['cpu']
) -> dict[str, Any]:
    """Times, peak memory and host waits of the loss step in each setting, run in turn."""
    if device.name == 'cpu':
        torch.set_num_threads(case.threads)
        keep_freed_memory()
    found: list[HeadStep] = []
    missing: dict[str, str] = {}
    for setting in settings_of(case.head):
        try:
            found.append(HeadStep(case, setting, device))
        except Exception as error:  # whatever an installed package raises when it is imported
            missing[setting.name] = f'{type(error).__name__}: {error}'
    steps, verdicts = prepare([head.step for head in found], TOLERANCE)
    samples = interleaved(steps, rounds, device)
    for head in found:
        if head.step.name in samples:
            samples[head.step.name] |= {
                **head.parts(rounds * device.steps_per_sample),
                'peak_bytes': device.peak(head.step.run),
                'host_waits': device.host_waits(head.step.run),
            }
    return {
        **case.record,
        'rounds': rounds,
        'missing': missing,
        'steps': {name: {**verdict, **samples.get(name, {})} for name, verdict in verdicts.items()},
    }


class HeadStep:
    """Losses and gradients by the outputs of a head, with watches on the parts."""

    def __init__(self, case: HeadCase, setting: Setting, device: Device) -> None:
        self.device = device
        self.head = build_head(case, setting).to(device.name)
        self.outputs, self.batch = made_up_batch(self.head, case, device.name)
        self.loss_by_feat: list[Callable[[], float]] = []
        self.inside_losses: list[list[Callable[[], float]]] = []
        self.step = Step(setting.name, self.run, setting.is_peer)
        for name, module in self.head.named_children():
            if name.startswith('loss'):
                self._watch(module)

    def run(self) -> tuple[Tensor, ...]:
        """The sum of the losses and its gradients."""
        self.inside_losses.append([])
        stop = self.device.stopwatch()
        losses = self.head.loss_by_feat(*self.outputs, *self.batch)
        self.loss_by_feat.append(stop())
        total = torch.stack([value for loss in losses.values() for value in _listed(loss)]).sum()
        leaves = [level for levels in self.outputs for level in levels]
        return total.detach(), *torch.autograd.grad(total, leaves)

    def parts(self, steps: int) -> dict[str, float]:
        """Milliseconds of ``loss_by_feat`` and of the losses' forward in it: of the last steps."""
        whole = [seconds() for seconds in self.loss_by_feat[-steps:]]
        inside = [sum(seconds() for seconds in run) for run in self.inside_losses[-steps:]]
        return {
            'loss_by_feat_ms': 1e3 * float(np.median(whole)),
            'losses_forward_ms': 1e3 * float(np.median(inside)),
        }

    def _watch(self, module: torch.nn.Module) -> None:
        running: list[Callable[[], Callable[[], float]]] = []
        module.register_forward_pre_hook(lambda *_: running.append(self.device.stopwatch()))
        module.register_forward_hook(
            lambda *_: self.inside_losses[-1].append(running.pop()()),
        )


def build_head(case: HeadCase, setting: Setting) -> Any:
    """The head of a setting.

    Raises:
        ImportError: if mmdet cannot be used.
    """
    importlib.import_module('mmdet.models')
    importlib.import_module('mmfocalx')
    models = importlib.import_module('mmdet.registry').MODELS
    to_config = importlib.import_module('mmengine.config').ConfigDict
    torch.manual_seed(0)  # the same weights in every setting
    config = {
        **CONFIGS[case.head],
        'type': setting.head,
        'num_classes': case.classes,
        'loss_cls': {'type': setting.loss, 'use_sigmoid': True},
        **dict(setting.arguments),
    }
    return models.build(to_config(config)).train()


def made_up_batch(
    head: Any, case: HeadCase, device: str
) -> tuple[list[list[Tensor]], tuple[list[Any], list[dict[str, Any]]]]:
    """Outputs of a head as leaves, and annotations with their meta information."""
    instance_data = importlib.import_module('mmengine.structures').InstanceData
    g = torch.Generator().manual_seed(0)
    shape = case.height, case.width
    features = [
        torch.randn(case.images, CHANNELS, *(-(-side // stride) for side in shape), generator=g)
        for stride in STRIDES
    ]
    with torch.no_grad():
        outputs = head([feature.to(device) for feature in features])
    leaves = [[level.detach().requires_grad_() for level in levels] for levels in outputs]
    limit = torch.tensor([case.width, case.height])
    annotations = []
    for _ in range(case.images):
        corner = torch.rand(case.objects, 2, generator=g) * limit * 0.7
        side = torch.rand(case.objects, 2, generator=g) * limit * 0.3
        boxes = torch.cat([corner, corner + side.clamp(min=8)], 1)
        labels = torch.randint(0, case.classes, (case.objects,), generator=g)
        annotations.append(instance_data(bboxes=boxes.to(device), labels=labels.to(device)))
    meta = {'img_shape': shape, 'pad_shape': shape, 'scale_factor': (1.0, 1.0)}
    return leaves, (annotations, [dict(meta) for _ in range(case.images)])


def _listed(loss: Tensor | list[Tensor]) -> list[Tensor]:
    return loss if isinstance(loss, list) else [loss]
