"""The whole loss step of a dense head, its targets included, beside mmdet's head."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.cases import main_losses
from benchmark.devices import DEVICES, Device
from benchmark.images import made_up_batch
from benchmark.peers import peer
from benchmark.steps import Step
from benchmark.timing import interleaved, keep_freed_memory, prepare
from mmfocalx.losses.catalogue import classification_losses

HEADS = ('RetinaHead', 'FCOSHead', 'ATSSHead', 'FoveaHead', 'RepPointsHead')
STRIDES = (8, 16, 32, 64, 128)
CHANNELS = 8
"""Of the features; the losses do not see them."""
TOLERANCE = 1e-4
ROUNDS = 7
CLASSES, THREADS, OBJECTS = (3, 80), (1, 2), 8
ASSIGNER = {
    'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4, 'min_pos_iou': 0,
    'ignore_iof_thr': -1,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    'RetinaHead': {
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
    'FCOSHead': {'strides': list(STRIDES), 'norm_cfg': None},
    'ATSSHead': {
        'anchor_generator': {
            'type': 'AnchorGenerator', 'octave_base_scale': 8, 'scales_per_octave': 1,
            'ratios': [1.0], 'strides': list(STRIDES),
        },
        'bbox_coder': {
            'type': 'DeltaXYWHBBoxCoder', 'target_means': [0.0] * 4,
            'target_stds': [0.1, 0.1, 0.2, 0.2],
        },
        'norm_cfg': None,
        'loss_bbox': {'type': 'GIoULoss', 'loss_weight': 2.0},
        'train_cfg': {
            'assigner': {'type': 'ATSSAssigner', 'topk': 9}, 'allowed_border': -1,
            'pos_weight': -1,
        },
    },
    'FoveaHead': {
        'strides': list(STRIDES), 'norm_cfg': None,
        'scale_ranges': ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
        'loss_bbox': {'type': 'SmoothL1Loss', 'beta': 0.11},
    },
    'RepPointsHead': {
        'point_strides': list(STRIDES), 'point_feat_channels': CHANNELS, 'norm_cfg': None,
        'train_cfg': {
            'init': {
                'assigner': {'type': 'PointAssigner', 'scale': 4, 'pos_num': 1}, 'pos_weight': -1,
            },
            'refine': {'assigner': ASSIGNER, 'pos_weight': -1},
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class HeadCase:
    """A head, its number of classes and a batch, measured with a number of CPU threads."""

    head: str
    classes: int
    height: int
    width: int
    images: int = 8
    objects: int = OBJECTS
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
    device: str,
    image: tuple[int, int] | None = None,
    classes: Sequence[int] = CLASSES,
    threads: Sequence[int] = THREADS,
    objects: int = OBJECTS,
) -> list[HeadCase]:
    """The cases to measure: on a GPU images of the usual size, on a CPU small ones."""
    height, width = image or ((800, 1344) if device == 'cuda' else (320, 320))
    return [
        HeadCase(head, number, height, width, objects=objects, threads=count)
        for head in HEADS
        for number in classes
        for count in (threads if device == 'cpu' else threads[:1])
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
    case: HeadCase,
    rounds: int = ROUNDS,
    device: Device = DEVICES['cpu'],
    make: Callable[[HeadCase, Setting, Device], Watched] | None = None,
) -> dict[str, Any]:
    """Times, peak memory and host waits of the loss step in each setting, run in turn.

    Args:
        case: the case.
        rounds: samples of each step.
        device: where, and with what it is measured.
        make: makes the step of a setting; :class:`HeadStep` if None.
    """
    if device.name == 'cpu':
        torch.set_num_threads(case.threads)
        keep_freed_memory()
    found: list[Watched] = []
    missing: dict[str, str] = {}
    for setting in settings_of(case.head):
        try:
            found.append((make or HeadStep)(case, setting, device))
        except Exception as error:  # whatever an installed package raises when it is imported
            missing[setting.name] = f'{type(error).__name__}: {error}'
    steps, verdicts = prepare([head.step for head in found], TOLERANCE)
    samples = interleaved(steps, rounds, device)
    for head in found:
        if head.step.name in samples:
            samples[head.step.name] |= {
                **{
                    name: watch.median_ms(rounds * device.steps_per_sample)
                    for name, watch in head.watches.items()
                },
                'peak_bytes': device.peak(head.step.run),
                'host_waits': device.host_waits(head.step.run),
            }
    return {
        **case.record,
        'rounds': rounds,
        'missing': missing,
        'steps': {name: {**verdict, **samples.get(name, {})} for name, verdict in verdicts.items()},
    }


class Watch:
    """The time of a part of a step, over the steps."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.steps: list[list[Callable[[], float]]] = []

    def begin_step(self) -> None:
        """What is watched from now on belongs to a new step."""
        self.steps.append([])

    def put_on(self, owner: Any, method: str) -> None:
        """Watch every call of a method of an object."""
        call = getattr(owner, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            stop = self.device.stopwatch()
            result = call(*args, **kwargs)
            self.steps[-1].append(stop())
            return result

        setattr(owner, method, watched)

    def median_ms(self, steps: int) -> float:
        """Median over the last steps."""
        return 1e3 * float(np.median([sum(s() for s in step) for step in self.steps[-steps:]]))


class Watched(Protocol):
    """A step with watches on its parts."""

    step: Step
    watches: dict[str, Watch]


class HeadStep:
    """Losses and gradients by the outputs of a head, with watches on the parts."""

    def __init__(self, case: HeadCase, setting: Setting, device: Device) -> None:
        self.head = build_head(case, setting).to(device.name)
        self.outputs, self.batch = made_up_batch(self.head, case, CHANNELS, STRIDES, device.name)
        self.step = Step(setting.name, self.run, setting.is_peer)
        self.watches = watches_of(self.head, device)

    def run(self) -> tuple[Tensor, ...]:
        """The sum of the losses and its gradients."""
        for watch in self.watches.values():
            watch.begin_step()
        total = sum_of(self.head.loss_by_feat(*self.outputs, *self.batch))
        leaves = [level for levels in self.outputs for level in levels]
        return total.detach(), *torch.autograd.grad(total, leaves)


def watches_of(head: Any, device: Device) -> dict[str, Watch]:
    """Watches on ``loss_by_feat`` of a head and on the losses' forward in it."""
    watches = {'loss_by_feat_ms': Watch(device), 'losses_forward_ms': Watch(device)}
    watches['loss_by_feat_ms'].put_on(head, 'loss_by_feat')
    for name, module in head.named_children():
        if name.startswith('loss'):
            watches['losses_forward_ms'].put_on(module, 'forward')
    return watches


def sum_of(losses: dict[str, Tensor | list[Tensor]]) -> Tensor:
    """The sum of what a head or a detector gives."""
    listed = [loss if isinstance(loss, list) else [loss] for loss in losses.values()]
    return torch.stack([loss.sum() for level in listed for loss in level]).sum()


def build_head(case: HeadCase, setting: Setting) -> Any:
    """The head of a setting.

    Raises:
        ImportError: if mmdet cannot be used.
    """
    config = {**CONFIGS[case.head], **changes(case, setting)}
    return build({**config, 'in_channels': CHANNELS, 'feat_channels': CHANNELS, 'stacked_convs': 1})


def changes(case: HeadCase, setting: Setting) -> dict[str, Any]:
    """What a setting changes of the head's config."""
    return {
        'type': setting.head,
        'num_classes': case.classes,
        'loss_cls': {'type': setting.loss, 'use_sigmoid': True},
        **dict(setting.arguments),
    }


def build(config: dict[str, Any]) -> Any:
    """A module of mmdet, to be trained, with the same weights each time."""
    importlib.import_module('mmdet.models')
    importlib.import_module('mmfocalx')
    to_config = importlib.import_module('mmengine.config').ConfigDict
    torch.manual_seed(0)
    return importlib.import_module('mmdet.registry').MODELS.build(to_config(config)).train()
