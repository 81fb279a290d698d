_base_ = 'rtmdet_r18-w16_fpn_focal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        loss_cls=dict(_delete_=True, type='QualityFocalLossX', use_sigmoid=True),
    )
)
