loss_cls = dict(
    type='PolyFocalLossX', use_sigmoid=True, gamma=2.0, alpha=0.25, epsilon=1.0, loss_weight=1.0
)
quality = 'none'
