# The same with two classes: `other` and the rare eight.
_base_ = 'imbalanced_digits.py'
imbalance = int('{{$IMBALANCE:100}}')
data_root = f'{{$IMBALANCED_DIGITS_ROOT:data/imbalanced_digits}}/binary-1to{imbalance}'
two_classes = dict(dataset=dict(task='binary', data_root=data_root))
train_dataloader = two_classes
val_dataloader = two_classes
test_dataloader = two_classes
