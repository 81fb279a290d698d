"""Rows of the matrix: heads of the DETR family."""

from __future__ import annotations

from dataclasses import replace

from helpers import matrix_feeds as feeds
from helpers.matrix_feeds import CHANNELS, CLASSES, LAYERS
from helpers.matrix_head import (
    DENSE,
    GIOU,
    ISINSTANCE,
    L1,
    NO_DISTRIBUTION,
    NO_SOFTMAX_TUPLE,
    QUALITY,
    Head,
)

MATCHING = dict(
    type='HungarianAssigner',
    match_costs=[
        dict(type='FocalLossCost'),
        dict(type='BBoxL1Cost', box_format='xywh'),
        dict(type='IoUCost', iou_mode='giou'),
    ],
)
DETR = dict(
    num_classes=CLASSES,
    embed_dims=CHANNELS,
    loss_bbox=L1,
    loss_iou=GIOU,
    train_cfg=dict(assigner=MATCHING),
)
DEFORMABLE = dict(DETR, num_pred_layer=LAYERS + 1, as_two_stage=True, sync_cls_avg_factor=True)

MMDET_HEADS = (
    Head('DETRHead', DETR, feed=feeds.on_queries, note=ISINSTANCE),
    Head('ConditionalDETRHead', DETR, feed=feeds.on_queries_with_points, note=ISINSTANCE),
    Head('DABDETRHead', DETR, feed=feeds.on_queries_with_boxes, note=ISINSTANCE),
    Head('DeformableDETRHead', DEFORMABLE, feed=feeds.on_two_stages, note=ISINSTANCE),
    Head('DINOHead', DEFORMABLE, feed=feeds.on_denoising_queries, note=ISINSTANCE),
    Head(
        'DDQDETRHead',
        DEFORMABLE,
        feed=feeds.on_dense_queries,
        note="fails with mmdet's own `QualityFocalLoss`, as its distinct queries hand over labels; "
        'the head of this package hands the quality to every loss',
    ),
)
DETR_HEADS = (
    *MMDET_HEADS,
    *(
        replace(
            head,
            type=f'{head.type}X',
            hands_over=QUALITY,
            soft=True,
            softmax=NO_SOFTMAX_TUPLE,
            note='',
        )
        for head in MMDET_HEADS
    ),
    Head(
        'GroundingDINOHead',
        dict(
            DEFORMABLE,
            contrastive_cfg=dict(max_text_len=5, log_scale='auto', bias=True),
            train_cfg=dict(
                assigner=dict(
                    MATCHING,
                    match_costs=[dict(type='BinaryFocalLossCost'), *MATCHING['match_costs'][1:]],
                )
            ),
        ),
        DENSE,
        feed=feeds.on_text,
        classes=1,
        softmax=NO_DISTRIBUTION,
        note='1-D predictions, one per text token; an object has a set of tokens and no label to '
        "hand a quality over with, and mmdet's own `QualityFocalLoss` is refused too",
    ),
)
