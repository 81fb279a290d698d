# The settings are those of https://github.com/kemaloksuz/RankSortLoss: three anchors a location,
# no centerness, 4 GPUs x 4 images.
_base_ = 'mmdet::atss/atss_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='ATSSHeadX',
        centerness=False,
        quality='iou',
        box_balance='self',
        anchor_generator=dict(octave_base_scale=4, scales_per_octave=3),
        loss_cls=dict(_delete_=True, type='RankSortLossX', use_sigmoid=True),
        loss_bbox=dict(loss_weight=1.0),
    ),
    test_cfg=dict(score_thr=0.0),  # scores keep the level that they start at
)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.008))
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
