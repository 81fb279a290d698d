_base_ = [
    '../_base_/models/condinst_r18-w16_fpn.py',
    '../_base_/datasets/digit_scenes_masks.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(num_classes=10, loss_cls=dict(type='FocalLossX', use_sigmoid=True)),
    mask_head=dict(loss_mask=dict(type='DiceLoss', use_sigmoid=True, activate=True, eps=5e-6)),
)
