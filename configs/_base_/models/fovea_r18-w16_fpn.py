# A FoveaBox narrow enough to train from scratch on a CPU in minutes.
# The config that inherits sets num_classes, quality and loss_cls of the head.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    type='FOVEA',
    bbox_head=dict(
        _delete_=True,
        type='FoveaHeadX',
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        strides=[8, 16, 32],
        base_edge_list=[16, 32, 64],
        scale_ranges=((1, 48), (24, 96), (48, 512)),
        sigma=0.4,
        norm_cfg=dict(type='GN', num_groups=8, requires_grad=True),
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0),
    ),
    train_cfg=dict(_delete_=True),
)
