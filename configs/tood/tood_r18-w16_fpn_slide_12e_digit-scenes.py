_base_ = 'tood_r18-w16_fpn_focal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        loss_cls=dict(_delete_=True, type='SlideLossX', use_sigmoid=True, activated=True),
    )
)
