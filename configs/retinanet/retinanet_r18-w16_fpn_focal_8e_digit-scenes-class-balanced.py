# 8 epochs of the repeated images are about as many iterations as 12 of the images themselves.
_base_ = [
    '../_base_/models/retinanet_r18-w16_fpn.py',
    '../_base_/datasets/digit_scenes_class_balanced.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, T_max=max_epochs)
model = dict(
    bbox_head=dict(
        num_classes=10,
        quality='none',
        loss_cls=dict(type='FocalLossX', use_sigmoid=True),
    )
)
