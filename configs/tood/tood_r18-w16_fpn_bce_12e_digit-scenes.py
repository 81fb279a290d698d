_base_ = 'tood_r18-w16_fpn_focal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        loss_cls=dict(
            _delete_=True,
            type='FocalLossX',
            gamma=0.0,
            alpha=None,
            use_sigmoid=True,
            activated=True,
        ),
    )
)
