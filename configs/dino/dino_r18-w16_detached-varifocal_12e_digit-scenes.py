_base_ = 'dino_r18-w16_focal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        quality='iou',
        loss_cls=dict(_delete_=True, type='VarifocalLossX', use_sigmoid=True, detach=True),
    )
)
