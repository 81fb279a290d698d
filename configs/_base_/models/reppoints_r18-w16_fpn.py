# A RepPoints narrow enough to train from scratch on a CPU in minutes.
# The config that inherits sets num_classes, quality and loss_cls of the head.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    type='RepPointsDetector',
    bbox_head=dict(
        _delete_=True,
        type='RepPointsHeadX',
        in_channels=48,
        feat_channels=48,
        point_feat_channels=48,
        stacked_convs=2,
        num_points=9,
        gradient_mul=0.1,
        point_strides=[8, 16, 32],
        point_base_scale=4,
        transform_method='moment',
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        loss_bbox_init=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.5),
        loss_bbox_refine=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0),
    ),
    train_cfg=dict(
        _delete_=True,
        init=dict(
            assigner=dict(type='PointAssigner', scale=4, pos_num=1),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        refine=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
    ),
)
