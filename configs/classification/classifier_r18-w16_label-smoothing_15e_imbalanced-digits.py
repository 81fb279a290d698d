_base_ = 'classifier_r18-w16_softmax-focal_15e_imbalanced-digits.py'
model = dict(loss_cls=dict(label_smoothing=0.1))
