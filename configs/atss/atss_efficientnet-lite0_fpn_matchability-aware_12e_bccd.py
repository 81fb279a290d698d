_base_ = 'atss_efficientnet-lite0_fpn_focal_12e_bccd.py'
model = dict(
    bbox_head=dict(
        quality='iou',
        loss_cls=dict(_delete_=True, type='MALossX', use_sigmoid=True),
    )
)
