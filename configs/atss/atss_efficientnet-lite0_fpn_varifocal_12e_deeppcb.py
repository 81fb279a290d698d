_base_ = 'atss_efficientnet-lite0_fpn_focal_12e_deeppcb.py'
model = dict(
    bbox_head=dict(
        quality='iou',
        loss_cls=dict(_delete_=True, type='VarifocalLossX', use_sigmoid=True),
    )
)
