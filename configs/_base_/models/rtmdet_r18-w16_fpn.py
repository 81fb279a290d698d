# RTMDet's head and assigner on the backbone and neck of the other small detectors, to train from
# scratch on a CPU in minutes. The config that inherits sets num_classes and loss_cls of the head.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    type='RTMDet',
    bbox_head=dict(
        _delete_=True,
        type='RTMDetSepBNHead',
        in_channels=48,
        feat_channels=48,
        stacked_convs=2,
        with_objectness=False,
        exp_on_reg=True,
        norm_cfg=dict(type='BN', requires_grad=True),
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)
