loss_cls = dict(
    type='PositionSupervisedLossX',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    exponent=2.0,
    loss_weight=1.0,
)
quality = 'iou'
