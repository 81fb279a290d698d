_base_ = [
    '../_base_/models/dino_r18-w16.py',
    '../_base_/datasets/digit_scenes.py',
    '../_base_/schedules/adamw_12e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=10,
        quality='none',
        loss_cls=dict(type='FocalLossX', use_sigmoid=True),
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=dict(max_norm=1.0))
