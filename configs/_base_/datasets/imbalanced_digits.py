# Handwritten digits, made when they are first used: `other` and the rare seven, eight and nine.
# IMBALANCE in the environment takes the place of 100 in 1:100, IMBALANCED_DIGITS_ROOT that of
# data/imbalanced_digits. A folder of your own needs no more than
# `dict(type='ImageFolderDataset', data_root=..., split=..., pipeline=...)`.
task = 'multiclass'
imbalance = int('{{$IMBALANCE:100}}')
data_root = f'{{$IMBALANCED_DIGITS_ROOT:data/imbalanced_digits}}/{task}-1to{imbalance}'

pipeline = [dict(type='LoadImageFromFile'), dict(type='PackImageAndLabel')]
digits = dict(type='ImbalancedDigits', data_root=data_root, task=task, ratio=imbalance)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=pipeline, **digits),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=pipeline, test_mode=True, **digits),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=pipeline, test_mode=True, **digits),
)
val_evaluator = dict(type='ClassificationMetric')
test_evaluator = dict(type='ClassificationMetric')
