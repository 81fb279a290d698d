_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits-binary.py'
model = dict(one_logit=True, loss_cls=dict(_delete_=True, type='torch.nn.BCEWithLogitsLoss'))
