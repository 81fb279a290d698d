loss_cls = dict(type='FocalLossX', use_sigmoid=False, gamma=2.0, alpha=0.25, loss_weight=1.0)
quality = 'none'
