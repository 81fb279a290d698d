loss_cls = dict(type='VarifocalLossX', use_sigmoid=True, alpha=0.75, gamma=2.0, loss_weight=1.0)
quality = 'iou'
