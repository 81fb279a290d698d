_base_ = [
    '../_base_/models/tood_r18-w16_fpn.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=10,
        loss_cls=dict(type='FocalLossX', use_sigmoid=True, activated=True),
    )
)
