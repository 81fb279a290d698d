# Weights of n / (C n_c), whose mean over the images is 1: scikit-learn's 'balanced'.
_base_ = 'classifier_r18-w16_cross-entropy_15e_imbalanced-digits.py'
imbalance = int('{{$IMBALANCE:100}}')
class_weight = [weight * (1 + 3 / imbalance) / 4 for weight in [1] + [imbalance] * 3]
model = dict(loss_cls=dict(class_weight=class_weight))
