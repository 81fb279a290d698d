# Blood cells, https://github.com/Shenggan/BCCD_Dataset (MIT), in COCO format.
# BCCD_ROOT in the environment takes the place of data/bccd.
_base_ = 'digit_scenes.py'

data_root = '{{$BCCD_ROOT:data/bccd}}'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 240), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
cells = dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/'))
auto_scale_lr = dict(base_batch_size=4)
train_dataloader = dict(
    batch_size=4, dataset=dict(ann_file='train.json', pipeline=train_pipeline, **cells)
)
val_dataloader = dict(dataset=dict(ann_file='val.json', pipeline=test_pipeline, **cells))
test_dataloader = dict(dataset=dict(ann_file='test.json', pipeline=test_pipeline, **cells))
metrics = ('CocoMetric', 'ScoreQualityMetric')
val_evaluator = [dict(type=one, ann_file=f'{data_root}/val.json') for one in metrics]
test_evaluator = [dict(type=one, ann_file=f'{data_root}/test.json') for one in metrics]
