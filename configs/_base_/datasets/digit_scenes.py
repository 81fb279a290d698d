# Handwritten digits on textured backgrounds; `python -m mmfocalx.datasets.digit_scenes` makes it.
# DIGIT_SCENES_ROOT in the environment takes the place of data/digit_scenes.
data_root = '{{$DIGIT_SCENES_ROOT:data/digit_scenes}}'
metainfo = dict(
    classes=('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(192, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

digits = dict(type='CheckedCocoDataset', data_root=data_root, metainfo=metainfo)
in_order = dict(
    batch_size=16,
    num_workers=0,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)  # what the learning rates are for
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
        **digits,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
        **digits,
    ),
    **in_order,
)
test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/test.json',
        data_prefix=dict(img='test/'),
        test_mode=True,
        pipeline=test_pipeline,
        **digits,
    ),
    **in_order,
)
metrics = ('CocoMetric', 'ScoreQualityMetric')
val_evaluator = [dict(type=one, ann_file=f'{data_root}/annotations/val.json') for one in metrics]
test_evaluator = [dict(type=one, ann_file=f'{data_root}/annotations/test.json') for one in metrics]
