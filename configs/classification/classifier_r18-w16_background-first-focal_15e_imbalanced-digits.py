# The first class is background: it gets a, every other class 1 - a.
_base_ = 'classifier_r18-w16_softmax-focal_15e_imbalanced-digits.py'
background = 0.25
model = dict(loss_cls=dict(alpha=[background] + [1 - background] * 3))
