# Weights of n / (C n_c), whose mean over the images is 1: scikit-learn's 'balanced'.
_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits-binary.py'
imbalance = int('{{$IMBALANCE:100}}')
class_weight = [weight * (1 + 1 / imbalance) / 2 for weight in [1] + [imbalance] * 1]
model = dict(loss_cls=dict(class_weight=class_weight))
