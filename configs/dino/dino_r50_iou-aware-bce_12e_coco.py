# The loss and its weight are those of https://github.com/FelixCaae/AlignDETR.
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='DINOHeadX',
        quality='iou',
        loss_cls=dict(_delete_=True, type='IABCELossX', use_sigmoid=True),
    )
)
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
