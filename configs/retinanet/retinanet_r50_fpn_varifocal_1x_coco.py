_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    '../_base_/use_mmfocalx.py',
    '../_base_/losses/varifocal.py',
]
model = dict(
    bbox_head=dict(
        type='RetinaHeadX',
        quality=_base_.quality,
        loss_cls=dict(_delete_=True, **_base_.loss_cls),
    )
)
val_evaluator = [
    _base_.val_evaluator,
    dict(type='ScoreQualityMetric', ann_file=_base_.val_evaluator.ann_file),
]
test_evaluator = val_evaluator
