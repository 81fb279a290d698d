loss_cls = dict(
    type='SlideLossX',
    use_sigmoid=True,
    loss=dict(type='VarifocalLossX', use_sigmoid=True, alpha=0.75, gamma=2.0),
    auto_iou='mean',
    momentum=0.0,
    loss_weight=1.0,
)
quality = 'iou'
