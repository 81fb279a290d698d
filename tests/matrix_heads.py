"""The rows of the matrix: mmdet's dense heads, built as small as they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matrix_feeds as feeds
from matrix_feeds import CHANNELS, CLASSES, LAYERS, Feed

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
    loss_names: tuple[str, ...] = ('loss_cls',)
    classes: int = CLASSES
    variant: str = ''
    soft: bool = False
    softmax: str = ''
    note: str = ''

    @property
    def id(self) -> str:
        return f'{self.type} ({self.variant})' if self.variant else self.type


ISINSTANCE = (
    "hands IoU to mmdet's own `QualityFocalLoss` only (`isinstance`), hard labels to all others"
)
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


APPROXIMATE = dict(
    approx_anchor_generator=anchors(octave_base_scale=4, scales_per_octave=2, ratios=[1.0, 2.0]),
    square_anchor_generator=anchors(scales=[4], ratios=[1.0]),
)
APPROXIMATE_IOU = dict(MAX_IOU, type='ApproxMaxIoUAssigner')
GUIDED = dict(
    SIZES,
    **APPROXIMATE,
    anchor_coder=coder(),
    bbox_coder=coder(),
    deform_groups=1,
    loss_loc=dict(type='FocalLoss', use_sigmoid=True),
    loss_bbox=dict(type='SmoothL1Loss'),
    train_cfg=train(
        MAX_IOU,
        ga_assigner=APPROXIMATE_IOU,
        ga_sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5),
        sampler=dict(type='PseudoSampler'),
        center_ratio=0.2,
        ignore_ratio=0.5,
    ),
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
VFNET = dict(
    anchor_generator=anchors(
        octave_base_scale=4, scales_per_octave=1, ratios=[1.0], center_offset=0.0
    ),
    loss_bbox=GIOU,
    loss_bbox_refine=GIOU,
    reg_decoded_bbox=True,
    norm_cfg=GROUP_NORM,
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
SOLO = dict(
    PLAIN,
    strides=[8, 8, 16],
    scale_ranges=((1, 32), (24, 48), (32, 2048)),
    num_grids=[6, 4, 3],
    cls_down_index=0,
    norm_cfg=GROUP_NORM,
    loss_mask=dict(type='DiceLoss', use_sigmoid=True),
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
HEADS = (
    anchor_head('RetinaHead'),
    Head(
        'RetinaSepBNHead',
        dict(PLAIN, num_ins=3, anchor_generator=anchors(), train_cfg=train(MAX_IOU)),
    ),
    anchor_head(
        'PISARetinaHead',
        train_args=dict(
            isr=dict(k=2.0, bias=0.0), carl=dict(k=1, bias=0.2), sampler=dict(type='PseudoSampler')
        ),
    ),
    Head('GARetinaHead', dict(GUIDED, num_classes=CLASSES, stacked_convs=1)),
    Head(
        'SABLRetinaHead',
        dict(
            PLAIN,
            **APPROXIMATE,
            bbox_coder=dict(type='BucketingBBoxCoder', num_buckets=6, scale_factor=3.0),
            train_cfg=train(APPROXIMATE_IOU),
        ),
    ),
    anchor_head(
        'FSAFHead',
        dict(type='CenterRegionAssigner', pos_scale=0.2, neg_scale=0.2, min_pos_iof=0.01),
        anchor_generator=anchors(octave_base_scale=1, scales_per_octave=1, ratios=[1.0]),
        bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
        reg_decoded_bbox=True,
        loss_bbox=dict(type='IoULoss', eps=1e-6, reduction='none'),
        loss_args=dict(reduction='none'),
        unreduced=ENTRIES,
    ),
    anchor_head('ATSSHead', ATSS, loss_bbox=GIOU, norm_cfg=GROUP_NORM),
    anchor_head('PAAHead', reg_decoded_bbox=True, loss_bbox=GIOU, norm_cfg=GROUP_NORM, unreduced=ENTRIES),
    anchor_head(
        'LADHead',
        reg_decoded_bbox=True,
        loss_bbox=GIOU,
        norm_cfg=GROUP_NORM,
        unreduced=ENTRIES,
        feed=feeds.with_teacher_labels,
        note='the teacher asks its own loss for the unreduced shape; here it is the head itself',
    ),
    anchor_head(
        'DDODHead',
        ATSS,
        loss_bbox=GIOU,
        norm_cfg=GROUP_NORM,
        train_args=dict(reg_assigner=ATSS),
    ),
    Head(
        'YOLOFHead',
        dict(
            num_classes=CLASSES,
            in_channels=CHANNELS,
            anchor_generator=anchors(16, scales=[1, 2], ratios=[1.0]),
            bbox_coder=dict(coder(), add_ctr_clamp=True, ctr_clamp=16),
            reg_decoded_bbox=True,
            loss_bbox=GIOU,
            num_cls_convs=1,
            num_reg_convs=1,
            train_cfg=train(
                dict(type='UniformAssigner', pos_ignore_thr=0.15, neg_ignore_thr=0.7)
            ),
        ),
        strides=(16,),
    ),
    Head(
        'RPNHead',
        dict(SIZES, anchor_generator=anchors(), bbox_coder=coder(), train_cfg=train(MAX_IOU)),
        feed=feeds.on_one_class,
        classes=1,
    ),
    Head('GARPNHead', GUIDED, feed=feeds.on_one_class, classes=1),
    Head(
        'StageCascadeRPNHead',
        dict(
            SIZES,
            anchor_generator=anchors(scales=[4], ratios=[1.0]),
            bbox_coder=coder(),
            adapt_cfg=dict(type='offset'),
            with_cls=True,
            reg_decoded_bbox=True,
            loss_bbox=dict(type='IoULoss'),
            train_cfg=train(MAX_IOU),
        ),
        feed=feeds.on_one_class,
        classes=1,
    ),
    point_head('FCOSHead', norm_cfg=GROUP_NORM),
    point_head('NASFCOSHead', norm_cfg=GROUP_NORM),
    point_head('CondInstBboxHead', norm_cfg=GROUP_NORM, num_params=4),
    Head(
        'FoveaHead',
        dict(
            PLAIN,
            strides=[8, 16, 32],
            base_edge_list=[16, 32, 64],
            scale_ranges=((1, 32), (24, 48), (32, 128)),
            sigma=0.4,
            with_deform=False,
        ),
    ),
    Head(
        'RepPointsHead',
        dict(
            PLAIN,
            point_feat_channels=CHANNELS,
            num_points=9,
            point_strides=[8, 16, 32],
            train_cfg=dict(
                init=train(dict(type='PointAssigner', scale=4, pos_num=1)), refine=train(MAX_IOU)
            ),
        ),
    ),
    anchor_head('VFNetHead', ATSS, variant='use_vfl=False', use_vfl=False, **VFNET),
    anchor_head('TOODHead', variant='initial epochs', feed=feeds.at_epoch(0),
        loss_names=('initial_loss_cls',), **TOOD),
    Head('SOLOHead', SOLO, strides=(4, 8, 16), feed=feeds.on_masks),
    Head('DecoupledSOLOHead', SOLO, strides=(4, 8, 16), feed=feeds.on_masks),
    Head('DETRHead', DETR, feed=feeds.on_queries, note=ISINSTANCE),
    Head('ConditionalDETRHead', DETR, feed=feeds.on_queries_with_points, note=ISINSTANCE),
    Head('DABDETRHead', DETR, feed=feeds.on_queries_with_boxes, note=ISINSTANCE),
    Head('DeformableDETRHead', DEFORMABLE, feed=feeds.on_two_stages, note=ISINSTANCE),
    Head('DINOHead', DEFORMABLE, feed=feeds.on_denoising_queries, note=ISINSTANCE),
    Head('DDQDETRHead', DEFORMABLE, feed=feeds.on_dense_queries, note=ISINSTANCE),
    Head(
        'YOLACTHead',
        dict(
            SIZES,
            num_classes=CLASSES,
            anchor_generator=anchors(),
            bbox_coder=coder(),
            num_protos=4,
            train_cfg=train(MAX_IOU, sampler=dict(type='PseudoSampler'), neg_pos_ratio=3),
        ),
        unreduced=ROWS,
        loss_args=dict(reduction='none'),
    ),
    Head('GFLHead', GFL, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head('LDHead', dict(GFL, loss_ld=LD), QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE, feed=feeds.with_teacher_boxes),
    anchor_head('TOODHead', hands_over=QUALITY, soft=True, feed=feeds.at_epoch(4), **TOOD),
    Head('RTMDetHead', RTM, QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head('RTMDetSepBNHead', dict(RTM, norm_cfg=dict(type='BN')), QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE),
    Head('RTMDetInsHead', dict(RTM, loss_mask=dict(type='DiceLoss')), QUALITY, soft=True, softmax=NO_SOFTMAX_TUPLE, feed=feeds.on_masks),
    anchor_head('VFNetHead', ATSS, hands_over=DENSE, soft=True, softmax=NO_DISTRIBUTION, **VFNET),
    Head(
        'YOLOXHead',
        dict(
            PLAIN,
            strides=(8, 16, 32),
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
                assigner=dict(
                    type='GridAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0
                )
            ),
        ),
        DENSE,
        strides=(32, 16, 8),
        loss_args=dict(reduction='sum'),
        softmax=NO_DISTRIBUTION,
    ),
    Head(
        'GroundingDINOHead',
        dict(
            DEFORMABLE,
            contrastive_cfg=dict(max_text_len=5, log_scale='auto', bias=True),
            train_cfg=dict(
                assigner=dict(MATCHING, match_costs=[dict(type='BinaryFocalLossCost'),
                    *MATCHING['match_costs'][1:]])
            ),
        ),
        DENSE,
        feed=feeds.on_text,
        classes=1,
        softmax=NO_DISTRIBUTION,
        note='1-D predictions, one per text token',
    ),
)
