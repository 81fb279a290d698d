"""Small heads of RetinaNet, FCOS, ATSS, FoveaBox and RepPoints, and a batch for them."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)
from mmdet.registry import MODELS

import mmfocalx  # noqa: F401  (registers)

STRIDES = (8, 16, 32)
SIZE = 96
METAS = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), scale_factor=(1, 1))] * 2
FOCAL = dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.5)
VARIFOCAL = dict(type='VarifocalLossX', use_sigmoid=True)
TEST_CFG = ConfigDict(
    nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
)

RETINA = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    anchor_generator=dict(
        type='AnchorGenerator',
        octave_base_scale=4,
        scales_per_octave=2,
        ratios=[0.5, 1.0, 2.0],
        strides=list(STRIDES),
    ),
    bbox_coder=dict(
        type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]
    ),
    loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    train_cfg=ConfigDict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=TEST_CFG,
)
FCOS = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    strides=list(STRIDES),
    regress_ranges=((-1, 24), (24, 48), (48, 1e8)),
    norm_cfg=dict(type='GN', num_groups=2),
    loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    test_cfg=TEST_CFG,
)
ATSS = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    anchor_generator=dict(
        type='AnchorGenerator',
        octave_base_scale=4,
        scales_per_octave=1,
        ratios=[1.0],
        strides=list(STRIDES),
    ),
    bbox_coder=RETINA['bbox_coder'],
    norm_cfg=dict(type='GN', num_groups=2),
    loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    train_cfg=ConfigDict(
        assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1
    ),
    test_cfg=TEST_CFG,
)
FOVEA = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    strides=list(STRIDES),
    base_edge_list=[16, 32, 64],
    scale_ranges=((1, 32), (16, 64), (32, 512)),
    sigma=0.7,
    norm_cfg=dict(type='GN', num_groups=2),
    loss_bbox=dict(type='SmoothL1Loss', beta=0.11),
    test_cfg=TEST_CFG,
)
REPPOINTS = dict(
    num_classes=3,
    in_channels=8,
    feat_channels=8,
    point_feat_channels=8,
    stacked_convs=1,
    point_strides=list(STRIDES),
    norm_cfg=dict(type='GN', num_groups=2),
    loss_bbox_init=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.5),
    loss_bbox_refine=dict(type='SmoothL1Loss', beta=0.11),
    train_cfg=ConfigDict(
        init=dict(assigner=dict(type='PointAssigner', scale=4, pos_num=4), pos_weight=-1),
        refine=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.3, neg_iou_thr=0.2, min_pos_iou=0),
            pos_weight=-1,
        ),
    ),
    test_cfg=TEST_CFG,
)
HEADS = {
    'RetinaHead': RETINA,
    'FCOSHead': FCOS,
    'ATSSHead': ATSS,
    'FoveaHead': FOVEA,
    'RepPointsHead': REPPOINTS,
}
KINDS = [f'{head}X' for head in HEADS]

BIAS_OF_BOXES = {'FoveaHead': -0.3}
POINTS = [(1.5 * y, 1.5 * x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def box_losses(kind: str) -> tuple[str, ...]:
    """The names of the box losses in the config of a head."""
    return tuple(name for name in HEADS[kind.removesuffix('X')] if name.startswith('loss_bbox'))


def box_loss(losses) -> torch.Tensor:
    """The sum of a head's box losses."""
    found = [losses[name] for name in ('loss_bbox', 'loss_pts_init', 'loss_pts_refine')
             if name in losses]  # fmt: skip
    return torch.stack(found).sum()


def build(kind: str, **settings):
    torch.manual_seed(0)
    base = HEADS[kind.removesuffix('X')]
    head = MODELS.build(copy.deepcopy({'type': kind, **base, **settings}))
    head.init_weights()
    with torch.no_grad():  # far from the start, where every box and score is alike
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, bias in head.named_parameters():
            if name == 'conv_reg.bias':
                bias.fill_(BIAS_OF_BOXES.get(kind.removesuffix('X'), 1.5))
            if (
                name == 'reppoints_pts_init_out.bias' and len(bias) == 18
            ):  # points around the location, y before x
                bias.copy_(torch.tensor(POINTS).flatten())
    return head.train()


def batch(boxes_per_image: int = 4):
    generator = torch.Generator().manual_seed(1)
    instances = []
    for _ in METAS:
        corner = torch.rand(boxes_per_image, 2, generator=generator) * 50
        side = torch.rand(boxes_per_image, 2, generator=generator) * 35 + 10
        labels = torch.randint(0, 3, (boxes_per_image,), generator=generator)
        instances.append(InstanceData(bboxes=torch.cat([corner, corner + side], 1), labels=labels))
    features = [
        torch.randn(len(METAS), 8, SIZE // s, SIZE // s, generator=generator) for s in STRIDES
    ]
    return features, instances


def losses_of(head, features, instances):
    raw = head.loss_by_feat(*head(features), instances, METAS)
    return {k: sum(v) if isinstance(v, list) else v for k, v in raw.items()}


def gradients(head, loss, **kwargs):
    return torch.autograd.grad(loss, list(head.parameters()), allow_unused=True, **kwargs)


class Recorder(torch.nn.Module):
    """Keeps the arguments that a head hands to its loss."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.calls = []

    def forward(self, pred, target, weight=None, avg_factor=None):
        self.calls.append((pred, target, weight, avg_factor))
        return self.loss(pred, target, weight, avg_factor=avg_factor)
