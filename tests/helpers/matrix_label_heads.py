"""Rows of the matrix: heads that hand over integer labels."""

from __future__ import annotations

from helpers import matrix_feeds as feeds
from helpers.matrix_feeds import CHANNELS, CLASSES
from helpers.matrix_head import (
    ATSS,
    ENTRIES,
    FOVEA,
    GIOU,
    GROUP_NORM,
    MAX_IOU,
    NO_BACKGROUND,
    ONE_CHANNEL,
    PLAIN,
    REPPOINTS,
    ROWS,
    SIZES,
    TOOD,
    VFNET,
    Head,
    anchor_head,
    anchors,
    coder,
    point_head,
    train,
)

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
SOLO = dict(
    PLAIN,
    strides=[8, 8, 16],
    scale_ranges=((1, 32), (24, 48), (32, 2048)),
    num_grids=[6, 4, 3],
    cls_down_index=0,
    norm_cfg=GROUP_NORM,
    loss_mask=dict(type='DiceLoss', use_sigmoid=True),
)

LABEL_HEADS = (
    anchor_head('RetinaHead'),
    Head(
        'RetinaSepBNHead',
        dict(PLAIN, num_ins=3, anchor_generator=anchors(), train_cfg=train(MAX_IOU)),
    ),
    anchor_head(
        'PISARetinaHead',
        softmax=ONE_CHANNEL,
        reweighs=True,
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
    anchor_head(
        'PAAHead', reg_decoded_bbox=True, loss_bbox=GIOU, norm_cfg=GROUP_NORM, unreduced=ENTRIES
    ),
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
            train_cfg=train(dict(type='UniformAssigner', pos_ignore_thr=0.15, neg_ignore_thr=0.7)),
        ),
        strides=(16,),
        softmax=NO_BACKGROUND,
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
    point_head('FCOSHead', loss_bbox=GIOU, norm_cfg=GROUP_NORM),
    point_head('NASFCOSHead', loss_bbox=GIOU, norm_cfg=GROUP_NORM),
    point_head('CondInstBboxHead', loss_bbox=GIOU, norm_cfg=GROUP_NORM, num_params=4),
    Head('FoveaHead', FOVEA),
    Head('RepPointsHead', REPPOINTS),
    Head(
        'VFNetHead',
        dict(VFNET, use_vfl=False),
        variant='use_vfl=False',
        softmax=NO_BACKGROUND,
    ),
    anchor_head(
        'TOODHead',
        variant='initial epochs',
        feed=feeds.at_epoch(0),
        loss_names=('initial_loss_cls',),
        **TOOD,
    ),
    Head('SOLOHead', SOLO, strides=(4, 8, 16), feed=feeds.on_masks, softmax=NO_BACKGROUND),
    Head('DecoupledSOLOHead', SOLO, strides=(4, 8, 16), feed=feeds.on_masks, softmax=NO_BACKGROUND),
    Head(
        'SOLOV2Head',
        dict(
            SOLO,
            mask_feature_head=dict(
                feat_channels=CHANNELS,
                out_channels=CHANNELS,
                start_level=0,
                end_level=2,
                mask_stride=4,
                norm_cfg=GROUP_NORM,
            ),
        ),
        strides=(4, 8, 16),
        feed=feeds.on_masks,
        softmax=NO_BACKGROUND,
    ),
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
)
