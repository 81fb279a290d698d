loss_cls = dict(type='IABCELossX', use_sigmoid=True, alpha=0.25, gamma=2.0, loss_weight=1.0)
quality = 'iou'
