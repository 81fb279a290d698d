"""Rows of the matrix: heads that hand over a score with each label or for each class."""

from __future__ import annotations

from helpers import matrix_feeds as feeds
from helpers.matrix_feeds import CHANNELS, CLASSES
from helpers.matrix_head import (
    ATSS,
    DENSE,
    FOVEA,
    GIOU,
    GROUP_NORM,
    NO_DISTRIBUTION,
    NO_SOFTMAX_TUPLE,
    PLAIN,
    QUALITY,
    REPPOINTS,
    TOOD,
    VFNET,
    Head,
    anchor_head,
    anchors,
    point_head,
    train,
)

RTM = dict(
    PLAIN,
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
    loss_bbox=GIOU,
    norm_cfg=GROUP_NORM,
    train_cfg=train(dict(type='DynamicSoftLabelAssigner', topk=5)),
)
GFL = dict(
    PLAIN,
    anchor_generator=anchors(),
    loss_bbox=GIOU,
    loss_dfl=dict(type='DistributionFocalLoss'),
    reg_max=7,
    norm_cfg=GROUP_NORM,
    train_cfg=train(ATSS),
)
LD = dict(type='KnowledgeDistillationKLDivLoss', T=10)

SCORE_HEADS = (
    anchor_head('RetinaHeadX', hands_over=QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    point_head(
        'FCOSHeadX',
        hands_over=QUALITY,
        soft=True,
        softmax=NO_SOFTMAX_TUPLE,
        loss_bbox=GIOU,
        norm_cfg=GROUP_NORM,
    ),
    anchor_head(
        'ATSSHeadX',
        ATSS,
        hands_over=QUALITY,
        soft=True,
        softmax=NO_SOFTMAX_TUPLE,
        loss_bbox=GIOU,
        norm_cfg=GROUP_NORM,
    ),
    Head('FoveaHeadX', FOVEA, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head('RepPointsHeadX', REPPOINTS, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head('GFLHead', GFL, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head(
        'LDHead',
        dict(GFL, loss_ld=LD),
        QUALITY,
        soft=True,
        softmax=NO_SOFTMAX_TUPLE,
        feed=feeds.with_teacher_boxes,
    ),
    anchor_head('TOODHead', hands_over=QUALITY, soft=True, feed=feeds.at_epoch(4), **TOOD),
    Head('RTMDetHead', RTM, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head(
        'RTMDetSepBNHead',
        dict(RTM, norm_cfg=dict(type='BN')),
        QUALITY,
        soft=True,
        softmax=NO_SOFTMAX_TUPLE,
    ),
    Head(
        'RTMDetInsHead',
        dict(RTM, loss_mask=dict(type='DiceLoss')),
        QUALITY,
        soft=True,
        softmax=NO_SOFTMAX_TUPLE,
        feed=feeds.on_masks,
    ),
    Head('VFNetHead', VFNET, DENSE, soft=True, softmax=NO_DISTRIBUTION),
    Head(
        'YOLOXHead',
        dict(
            PLAIN,
            strides=(8, 16, 32),
            loss_bbox=dict(type='IoULoss', mode='square', reduction='sum'),
            train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        ),
        DENSE,
        loss_args=dict(reduction='sum'),
        soft=True,
        softmax=NO_DISTRIBUTION,
    ),
    Head(
        'YOLOV3Head',
        dict(
            num_classes=CLASSES,
            in_channels=[CHANNELS] * 3,
            out_channels=[CHANNELS] * 3,
            anchor_generator=dict(
                type='YOLOAnchorGenerator',
                base_sizes=[[(48, 48)], [(32, 32)], [(16, 16)]],
                strides=[32, 16, 8],
            ),
            featmap_strides=[32, 16, 8],
            train_cfg=dict(
                assigner=dict(type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)
            ),
        ),
        DENSE,
        strides=(32, 16, 8),
        loss_args=dict(reduction='sum'),
        softmax=NO_DISTRIBUTION,
        note="(B, N, C) predictions and (B, N, 1) weights, on which mmdet's own FocalLoss fails",
    ),
)
