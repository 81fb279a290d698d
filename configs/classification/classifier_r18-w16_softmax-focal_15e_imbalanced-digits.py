_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits.py'
model = dict(
    loss_cls=dict(_delete_=True, type='FocalLossX', use_sigmoid=False, gamma=2.0, alpha=None)
)
