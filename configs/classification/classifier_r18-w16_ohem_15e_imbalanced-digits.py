# Online hard example mining: the half of a batch with the largest losses.
_base_ = 'classifier_r18-w16_softmax-focal_15e_imbalanced-digits.py'
model = dict(loss_cls=dict(ohem_ratio=0.5))
