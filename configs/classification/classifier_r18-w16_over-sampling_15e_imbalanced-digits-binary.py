# An epoch has as many images as before, in turn one of each class.
_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits-binary.py'
train_dataloader = dict(sampler=dict(_delete_=True, type='ClassAwareSampler'))
