# The loss, its scale and its weight are those of https://github.com/IDEA-Research/Stable-DINO.
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='DINOHeadX',
        quality='iou',
        quality_scale='image',
        loss_cls=dict(
            _delete_=True, type='PositionSupervisedLossX', use_sigmoid=True, loss_weight=6.0
        ),
    )
)
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
