_base_ = [
    '../_base_/models/retinanet_efficientnet-lite0_fpn.py',
    '../_base_/datasets/deeppcb.py',
    '../_base_/schedules/adamw_12e_finetune.py',
    '../_base_/default_runtime.py',
]
model = dict(
    bbox_head=dict(
        num_classes=6,
        quality='none',
        loss_cls=dict(type='FocalLossX', use_sigmoid=True),
    )
)
