# 4 GPUs x 4 images, as in VarifocalNet's code.
_base_ = 'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='RepPointsHeadX',
        quality='iou',
        loss_cls=dict(_delete_=True, type='VarifocalLossX', use_sigmoid=True),
    )
)
train_dataloader = dict(batch_size=4, num_workers=4)
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
