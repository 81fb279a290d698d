# One logit for two classes, with targets 0 and 1: alpha weighs class 1, 1 - alpha class 0.
_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits-binary.py'
model = dict(
    one_logit=True,
    loss_cls=dict(_delete_=True, type='FocalLossX', use_sigmoid=True, gamma=2.0, alpha=0.75),
)
