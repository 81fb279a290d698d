# A CondInst narrow enough to train from scratch on a CPU in minutes.
# The config that inherits sets num_classes, loss_cls and loss_mask.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    type='CondInst',
    bbox_head=dict(
        _delete_=True,
        type='CondInstBboxHead',
        num_params=169,
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        strides=[8, 16, 32],
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        conv_bias=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    mask_head=dict(
        type='CondInstMaskHead',
        num_layers=3,
        feat_channels=8,
        size_of_interest=8,
        mask_out_stride=2,
        max_masks_to_train=300,
        mask_feature_head=dict(
            in_channels=48,
            feat_channels=48,
            start_level=0,
            end_level=2,
            out_channels=8,
            mask_stride=8,
            num_stacked_convs=2,
            norm_cfg=dict(type='BN', requires_grad=True),
        ),
    ),
    train_cfg=dict(_delete_=True),
    test_cfg=dict(mask_thr=0.5),
)
