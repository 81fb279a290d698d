# One alpha for each class, n / (C n_c), as the weights of the weighted cross-entropy.
_base_ = 'classifier_r18-w16_softmax-focal_15e_imbalanced-digits.py'
imbalance = int('{{$IMBALANCE:100}}')
alpha = [weight * (1 + 3 / imbalance) / 4 for weight in [1] + [imbalance] * 3]
model = dict(loss_cls=dict(alpha=alpha))
