# 4 GPUs x 4 images, as in VarifocalNet's code.
_base_ = 'mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='FoveaHeadX',
        quality='iou',
        loss_cls=dict(_delete_=True, type='VarifocalLossX', use_sigmoid=True),
    )
)
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
