_base_ = [
    '../_base_/models/classifier_r18-w16.py',
    '../_base_/datasets/imbalanced_digits.py',
    '../_base_/classification_runtime.py',
]
model = dict(num_classes=4, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False))
