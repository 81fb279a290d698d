# The alpha of each class that tools/analysis/dataset_stats.py suggests for the training split.
_base_ = 'retinanet_r18-w16_fpn_focal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        loss_cls=dict(
            alpha=[
                0.0820,
                0.1214,
                0.1739,
                0.1986,
                0.2392,
                0.2617,
                0.3056,
                0.3189,
                0.3597,
                0.3371,
            ],
        ),
    )
)
