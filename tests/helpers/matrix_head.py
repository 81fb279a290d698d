"""A row of the matrix: a dense head of mmdet, built as small as it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers import matrix_feeds as feeds
from helpers.matrix_feeds import CHANNELS, CLASSES, Feed

LABELS, QUALITY, DENSE = 'labels', '(labels, quality)', 'dense'
ENTRIES, ROWS = '(N, C)', '(N,)'


@dataclass(frozen=True)
class Head:
    """A head that calls its classification loss in mmdet's convention.

    Attributes:
        type: registered name.
        config: constructor arguments without the losses under test.
        hands_over: form of the target that the head gives to the loss.
        strides: of the feature maps.
        feed: runs the head and returns its losses.
        loss_args: what the config of every loss of this head must say.
        unreduced: shape that the head needs where it asks for an unreduced loss.
        reweighs: whether it asks for an unreduced loss of any shape, and weighs positives by it.
        loss_names: attributes that hold the losses under test.
        classes: columns of the predictions that the loss sees.
        variant: what tells two rows of one type apart.
        soft: whether the target scores lie between 0 and 1.
        softmax: reason why ``use_sigmoid=False`` does not fit, '' if it does.
        note: what a user should know.
    """

    type: str
    config: Mapping[str, Any]
    hands_over: str = LABELS
    strides: tuple[int, ...] = (8, 16, 32)
    feed: Feed = feeds.on_features
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    unreduced: str | None = None
    reweighs: bool = False
    loss_names: tuple[str, ...] = ('loss_cls',)
    classes: int = CLASSES
    variant: str = ''
    soft: bool = False
    softmax: str = ''
    note: str = ''

    @property
    def box_loss(self) -> str:
        """Name of the loss of decoded boxes, '' if there is none."""
        for name in ('loss_iou', 'loss_bbox'):
            if self.config.get(name, {}).get('type') in ('IoULoss', 'GIoULoss'):
                return name
        return ''

    @property
    def id(self) -> str:
        return f'{self.type} ({self.variant})' if self.variant else self.type


ISINSTANCE = (
    "hands IoU to mmdet's own `QualityFocalLoss` only (`isinstance`), hard labels to all others; "
    'the head of this package hands it to every loss'
)
NO_BACKGROUND = 'the head has as many channels as classes, none for the background'
ONE_CHANNEL = 'without sigmoid the head reshapes its scores to one channel'
PROBABILITIES = 'the predictions are probabilities already (`activated=True`)'
NO_SOFTMAX_TUPLE = 'a score of less than 1 leaves no target for the other classes'
NO_DISTRIBUTION = 'the targets of background rows are all zero, and no channel stands for it'

GIOU = dict(type='GIoULoss')
L1 = dict(type='L1Loss')
GROUP_NORM = dict(type='GN', num_groups=2)
SIZES = dict(in_channels=CHANNELS, feat_channels=CHANNELS)
PLAIN = dict(num_classes=CLASSES, stacked_convs=1, **SIZES)
MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.4, neg_iou_thr=0.3, min_pos_iou=0)
ATSS = dict(type='ATSSAssigner', topk=4)


def anchors(*strides: int, **kwargs: Any) -> dict[str, Any]:
    boxes = dict(octave_base_scale=4, scales_per_octave=1, ratios=[1.0])
    return dict(type='AnchorGenerator', strides=list(strides or (8, 16, 32)), **(kwargs or boxes))


def coder(scale: float = 1.0) -> dict[str, Any]:
    return dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[scale] * 4)


def train(assigner: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    return dict(assigner=assigner, allowed_border=-1, pos_weight=-1, debug=False, **kwargs)


def anchor_head(type: str, assigner: dict[str, Any] = MAX_IOU, **kwargs: Any) -> Head:
    row = {k: kwargs.pop(k) for k in list(kwargs) if k in Head.__dataclass_fields__}
    config = dict(
        PLAIN,
        anchor_generator=anchors(),
        bbox_coder=coder(),
        train_cfg=train(assigner, **kwargs.pop('train_args', {})),
    )
    return Head(type, {**config, **kwargs}, **row)


def point_head(type: str, **kwargs: Any) -> Head:
    row = {k: kwargs.pop(k) for k in list(kwargs) if k in Head.__dataclass_fields__}
    ranges = ((-1, 24), (24, 48), (48, 1e8))
    return Head(type, {**PLAIN, 'strides': [8, 16, 32], 'regress_ranges': ranges, **kwargs}, **row)


VFNET = dict(
    PLAIN,
    anchor_generator=anchors(
        octave_base_scale=4, scales_per_octave=1, ratios=[1.0], center_offset=0.0
    ),
    loss_bbox=GIOU,
    loss_bbox_refine=GIOU,
    norm_cfg=GROUP_NORM,
    train_cfg=train(ATSS),
)
TOOD = dict(
    norm_cfg=GROUP_NORM,
    stacked_convs=2,
    loss_bbox=GIOU,
    loss_args=dict(activated=True),
    train_args=dict(initial_epoch=4, initial_assigner=ATSS, alpha=1, beta=6),
    assigner=dict(type='TaskAlignedAssigner', topk=5),
    softmax=PROBABILITIES,
)
FOVEA = dict(
    PLAIN,
    strides=[8, 16, 32],
    base_edge_list=[16, 32, 64],
    scale_ranges=((1, 32), (24, 48), (32, 128)),
    sigma=0.4,
    with_deform=False,
)
REPPOINTS = dict(
    PLAIN,
    point_feat_channels=CHANNELS,
    num_points=9,
    point_strides=[8, 16, 32],
    train_cfg=dict(
        init=train(dict(type='PointAssigner', scale=4, pos_num=1)), refine=train(MAX_IOU)
    ),
)
