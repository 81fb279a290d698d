"""Every config parses and builds what its name says; those of the digit scenes take a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

import mmfocalx  # noqa: F401  (registers)
from helpers.cases import CASES

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

FOLDER = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    path.relative_to(FOLDER).as_posix()
    for path in FOLDER.glob('*/*.py')
    if path.parts[-2] != '_base_'
)
DIGIT_SCENES = [name for name in NAMES if name.endswith('digit-scenes.py')]
SIZE = 96
HEADS = {'retinanet': 'RetinaHeadX', 'fcos': 'FCOSHeadX', 'solo': 'SOLOHead'}
# What the loss in a config's name stands for: types, and what the target's score is.
LOSSES: dict[str, dict[str, str]] = {
    'focal': dict(loss_cls='FocalLossX', quality='none'),
    'mmdet-focal': dict(loss_cls='FocalLoss', quality='none'),
    'softmax-focal': dict(loss_cls='FocalLossX', quality='none'),
    'varifocal': dict(loss_cls='VarifocalLossX', quality='iou'),
    'quality-focal': dict(loss_cls='QualityFocalLossX', quality='iou'),
    'slide': dict(loss_cls='SlideLossX', quality='iou'),
    'poly-focal': dict(loss_cls='PolyFocalLossX', quality='none'),
    'asymmetric': dict(loss_cls='AsymmetricLossX', quality='none'),
    'matchability-aware': dict(loss_cls='MALossX', quality='iou'),
    'iou-aware-bce': dict(loss_cls='IABCELossX', quality='iou'),
    'position-supervised': dict(loss_cls='PositionSupervisedLossX', quality='iou'),
    'equalized-focal': dict(loss_cls='EqualizedFocalLossX', quality='none'),
    'varifocal-focal-eiou': dict(
        loss_cls='VarifocalLossX', loss_bbox='FocalEIoULossX', quality='iou'
    ),
    'focal-dice': dict(loss_cls='FocalLoss', loss_mask='FocalDiceLossX'),
}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def build(name: str) -> Any:
    cfg = Config.fromfile(FOLDER / name)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def batch(num_classes: int) -> tuple[torch.Tensor, list[Any]]:
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
        samples.append(sample)
    return torch.randn(2, 3, SIZE, SIZE, generator=g), samples


@pytest.mark.parametrize('name', NAMES)
def test_config_builds_what_its_name_says(name: str) -> None:
    detector, *_, loss, _schedule, _dataset = Path(name).stem.split('_')
    model = build(name)
    head = model.mask_head if detector == 'solo' else model.bbox_head
    assert type(head).__name__ == HEADS[detector]
    for argument, expected in LOSSES[loss].items():
        value = getattr(head, argument)
        assert (value if isinstance(value, str) else type(value).__name__) == expected


@pytest.mark.parametrize('name', DIGIT_SCENES)
def test_one_step_on_digit_scenes(name: str) -> None:
    model = build(name)
    model.init_weights()
    model.train()
    losses = model.loss(*batch(model.bbox_head.num_classes))
    total = torch.stack(
        [torch.stack(v).sum() if isinstance(v, list) else v for v in losses.values()]
    )
    assert total.isfinite().all() and (total > 0).all()
    total.sum().backward()
    for parameter_name, parameter in model.bbox_head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # A level without a box of its size leaves its scale alone.
        assert parameter.grad.any() or 'scales' in parameter_name, parameter_name


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
def test_every_classification_loss_has_a_config_on_digit_scenes(detector: str) -> None:
    named = {Path(name).stem.split('_')[-3] for name in DIGIT_SCENES if name.startswith(detector)}
    assert {case.type for case in CASES} <= {LOSSES[loss]['loss_cls'] for loss in named}
