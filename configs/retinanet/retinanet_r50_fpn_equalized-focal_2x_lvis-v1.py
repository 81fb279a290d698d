# LVIS v1, https://www.lvisdataset.org, in data/lvis_v1; its metric needs the package lvis.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    'mmdet::_base_/datasets/lvis_v1_instance.py',
    'mmdet::_base_/schedules/schedule_2x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/tricks/bias_prior.py',
    '../_base_/tricks/clip_grad.py',
]
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    bbox_head=dict(
        type='RetinaHeadX',
        quality='none',
        num_classes=1203,
        init_cfg=_base_.bias_prior,
        loss_cls=dict(
            _delete_=True, type='EqualizedFocalLossX', use_sigmoid=True, num_classes=1203
        ),
    ),
    test_cfg=dict(score_thr=0.0001, max_per_img=300),
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=_base_.clip_grad)

boxes = dict(type='LoadAnnotations', with_bbox=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    boxes,
    dict(
        type='RandomChoiceResize',
        scales=[(1333, side) for side in (640, 672, 704, 736, 768, 800)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    boxes,
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
