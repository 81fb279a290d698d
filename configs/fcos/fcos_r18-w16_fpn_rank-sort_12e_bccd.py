_base_ = 'fcos_r18-w16_fpn_focal_12e_bccd.py'
model = dict(
    bbox_head=dict(
        quality='iou',
        box_balance='self',
        loss_cls=dict(_delete_=True, type='RankSortLossX', use_sigmoid=True),
    ),
    test_cfg=dict(score_thr=0.0),  # scores keep the level that they start at
)
