loss_cls = dict(type='QualityFocalLossX', use_sigmoid=True, beta=2.0, loss_weight=1.0)
quality = 'iou'
