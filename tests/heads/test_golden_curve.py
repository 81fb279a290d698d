"""48 iterations of the shipped configs on drawn pictures, against the losses recorded before.

The detectors are narrower than the shipped ones, and RetinaNet's box loss is smooth; classification
loss, head, optimizer and schedule are theirs, so that a change of any of them shows here. After an
intended change, look at the differences, then record the curves again::

    OMP_NUM_THREADS=1 python tests/heads/test_golden_curve.py

The tolerance is five times the largest relative difference that was seen between both stacks, one
thread and two, the plain formula and the compiled pass, and instruction sets from SSE to AVX-512.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.data import Dataset

import mmfocalx
from mmfocalx.losses import VarifocalLossX
from mmfocalx.models import FCOSHeadX, RetinaHeadX

RECORDED = Path(__file__).with_name('golden_curve.json')
CURVES = [(detector, loss) for detector in ('retinanet', 'fcos') for loss in ('focal', 'varifocal')]
TOLERANCE = 1e-4
ITERATIONS = 48
SIZE = 64
CLASSES = 10
Curves = dict[str, list[float]]
Change = Callable[[Config, pytest.MonkeyPatch], None]


class Pictures(Dataset):
    """Noise with two rectangles in each picture, whose colour is that of their class."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        g = torch.Generator().manual_seed(index)
        picture = torch.randint(90, 130, (3, SIZE, SIZE), generator=g, dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (2,), generator=g)
        corners = torch.randint(0, 30, (2, 2), generator=g)
        ends = corners + torch.randint(12, 34, (2, 2), generator=g)
        for label, (x0, y0), (x1, y1) in zip(
            labels.tolist(), corners.tolist(), ends.tolist(), strict=True
        ):
            colour = torch.tensor([25 * label, 250 - 25 * label, 250 * (label % 2)])
            picture[:, y0:y1, x0:x1] = colour.to(torch.uint8)[:, None, None]
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1, 1), img_id=index
            ),
            gt_instances=InstanceData(bboxes=torch.cat([corners, ends], 1).float(), labels=labels),
        )
        return dict(inputs=picture, data_samples=sample)


class Curve(Hook):
    """The losses of every iteration, by name."""

    def __init__(self) -> None:
        self.losses: Curves = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for name, value in outputs.items():
            self.losses.setdefault(name, []).append(value.item())


def small(detector: str, loss: str) -> Config:
    """A shipped config with a narrower detector, for small pictures.

    RetinaNet's box loss is smooth: at the kink of L1, rounding decides the direction of a step.
    """
    path = f'{detector}/{detector}_r18-w16_fpn_{loss}_12e_digit-scenes.py'
    config = Config.fromfile(mmfocalx.config_path(path))
    config.model.backbone.base_channels = 8
    config.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    config.model.bbox_head.update(in_channels=16, feat_channels=16)
    if detector == 'retinanet':
        config.model.bbox_head.loss_bbox.update(type='SmoothL1Loss', beta=1.0)
    return config


def train(config: Config, work_dir: str | Path, iterations: int = ITERATIONS) -> Curves:
    """The losses of the first of ``ITERATIONS`` on 4 batches of 2 pictures in an epoch."""
    curve = Curve()
    runner = Runner(
        model=config.model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=Pictures(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=iterations // 4),
        optim_wrapper=config.optim_wrapper,
        param_scheduler=config.param_scheduler,
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[curve],
        randomness=dict(seed=0),
        experiment_name=f'golden{id(curve)}',
        default_scope='mmdet',
        log_level='ERROR',
    )
    runner.train()
    return curve.losses


def recorded(detector: str, loss: str) -> Curves:
    curves: Curves = json.loads(RECORDED.read_text())[f'{detector}-{loss}']
    return curves


def difference(got: Curves, expected: Curves) -> float:
    """The largest relative difference of two losses, over the iterations that ``got`` has."""
    assert got.keys() == expected.keys()
    return max(
        abs(new - old) / abs(old)
        for name, losses in got.items()
        for new, old in zip(losses, expected[name][: len(losses)], strict=True)
    )


def record() -> None:
    """Write the curves of the code as it is."""
    rows = []
    for detector, loss in CURVES:
        with tempfile.TemporaryDirectory() as folder:
            curves = train(small(detector, loss), folder)
        lines = [
            f'    "{name}": {json.dumps([float(f"{value:.7g}") for value in losses])}'
            for name, losses in curves.items()
        ]
        rows.append(f'  "{detector}-{loss}": {{\n' + ',\n'.join(lines) + '\n  }')
    RECORDED.write_text('{\n' + ',\n'.join(rows) + '\n}\n')


@pytest.mark.parametrize(('detector', 'loss'), CURVES)
def test_losses_are_those_recorded(detector: str, loss: str, tmp_path: Path) -> None:
    expected = recorded(detector, loss)
    assert {len(losses) for losses in expected.values()} == {ITERATIONS}
    assert difference(train(small(detector, loss), tmp_path), expected) < TOLERANCE


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize(('detector', 'loss'), [('retinanet', 'focal'), ('fcos', 'varifocal')])
def test_the_compiled_pass_has_the_same_losses(detector: str, loss: str, tmp_path: Path) -> None:
    config = small(detector, loss)
    config.model.bbox_head.loss_cls.fused = True
    assert difference(train(config, tmp_path), recorded(detector, loss)) < TOLERANCE


def smaller_alpha(config: Config, patch: pytest.MonkeyPatch) -> None:
    assert config.model.bbox_head.loss_cls.pop('alpha', 0.75) == 0.75
    config.model.bbox_head.loss_cls.alpha = 0.74


def another_quality(config: Config, patch: pytest.MonkeyPatch) -> None:
    config.model.bbox_head.quality = 'giou'


def one_more_positive(config: Config, patch: pytest.MonkeyPatch) -> None:
    whole = VarifocalLossX.forward

    def mutant(self: VarifocalLossX, *args: Any, avg_factor: float | Tensor, **kw: Any) -> Tensor:
        return whole(self, *args, avg_factor=avg_factor + 1, **kw)

    patch.setattr(VarifocalLossX, 'forward', mutant)


def longer_warmup(config: Config, patch: pytest.MonkeyPatch) -> None:
    (warmup,) = (part for part in config.param_scheduler if part.type == 'LinearLR')
    warmup.end += 1


def longer_decay(config: Config, patch: pytest.MonkeyPatch) -> None:
    (decay,) = (part for part in config.param_scheduler if part.type == 'CosineAnnealingLR')
    decay.T_max += 1


def missing_stop_gradient(config: Config, patch: pytest.MonkeyPatch) -> None:
    """None at the boxes, in the head and in the loss, which both stop it."""
    for head in (RetinaHeadX, FCOSHeadX):

        def mutant(self: Any, *args: Any, whole: Any = head.loss_by_feat, **kwargs: Any) -> Any:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(torch.Tensor, 'detach', lambda tensor: tensor)
                return whole(self, *args, **kwargs)

        patch.setattr(head, 'loss_by_feat', mutant)


@pytest.mark.parametrize(
    ('detector', 'change'),
    [
        ('fcos', smaller_alpha),  # too few of RetinaNet's early losses are of negatives
        ('retinanet', another_quality),
        ('fcos', another_quality),
        ('retinanet', one_more_positive),
        ('fcos', one_more_positive),
        ('retinanet', longer_warmup),
        ('fcos', longer_decay),
        ('retinanet', missing_stop_gradient),
        ('fcos', missing_stop_gradient),
    ],
)
def test_a_change_shows_within_twelve_iterations(
    detector: str, change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(detector, 'varifocal')
    with monkeypatch.context() as patch:
        change(config, patch)
        got = train(config, tmp_path, iterations=12)
    assert difference(got, recorded(detector, 'varifocal')) > TOLERANCE


if __name__ == '__main__':
    record()
