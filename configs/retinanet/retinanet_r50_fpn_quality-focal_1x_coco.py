_base_ = 'retinanet_r50_fpn_focal_1x_coco.py'
model = dict(
    bbox_head=dict(
        quality='iou',
        loss_cls=dict(_delete_=True, type='QualityFocalLossX', use_sigmoid=True),
    )
)
