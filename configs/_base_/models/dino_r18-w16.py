# A DINO narrow enough to train from scratch on a CPU in ten minutes.
# It needs onedl-mmdetection: the decoder of mmdet 3.3.0 takes 256 channels only.
# The config that inherits sets num_classes, quality and loss_cls of the head.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    type='DINO',
    num_queries=40,
    with_box_refine=True,
    as_two_stage=True,
    neck=dict(
        _delete_=True,
        type='ChannelMapper',
        in_channels=[32, 64, 128],
        kernel_size=1,
        out_channels=64,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=8),
        num_outs=3,
    ),
    backbone=dict(out_indices=(1, 2, 3)),
    encoder=dict(
        num_layers=1,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=64, num_levels=3, dropout=0.0),
            ffn_cfg=dict(embed_dims=64, feedforward_channels=256, ffn_drop=0.0),
        ),
    ),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=64, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=64, num_levels=3, dropout=0.0),
            ffn_cfg=dict(embed_dims=64, feedforward_channels=256, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=32, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(
        _delete_=True,
        type='DINOHeadX',
        embed_dims=64,
        sync_cls_avg_factor=True,
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=20),
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        ),
    ),
    test_cfg=dict(_delete_=True, max_per_img=100),
)
