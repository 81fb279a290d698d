loss_cls = dict(type='MALossX', use_sigmoid=True, gamma=1.5, alpha=None, loss_weight=1.0)
quality = 'iou'
