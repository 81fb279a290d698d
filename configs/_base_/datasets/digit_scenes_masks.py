# Digit scenes with masks; `python -m mmfocalx.datasets.digit_scenes --masks` makes them.
_base_ = 'digit_scenes.py'

data_root = '{{$DIGIT_SCENES_ROOT:data/digit_scenes}}'
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/train_masks.json',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs'),
        ],
    )
)
val_dataloader = dict(dataset=dict(ann_file='annotations/val_masks.json'))
test_dataloader = dict(dataset=dict(ann_file='annotations/test_masks.json'))
metrics = (dict(type='CocoMetric', metric=['bbox', 'segm']), dict(type='ScoreQualityMetric'))
val_evaluator = [dict(ann_file=f'{data_root}/annotations/val_masks.json', **one) for one in metrics]
test_evaluator = [
    dict(ann_file=f'{data_root}/annotations/test_masks.json', **one) for one in metrics
]
