# One alpha for each class, n / (C n_c), as the weights of the weighted cross-entropy.
_base_ = 'classifier_r18-w16_softmax-focal_15e_imbalanced-digits-binary.py'
imbalance = int('{{$IMBALANCE:100}}')
alpha = [weight * (1 + 1 / imbalance) / 2 for weight in [1] + [imbalance] * 1]
model = dict(loss_cls=dict(alpha=alpha))
