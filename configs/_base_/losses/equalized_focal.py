# The config that inherits sets num_classes of the loss.
loss_cls = dict(
    type='EqualizedFocalLossX',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    scale_factor=8.0,
    loss_weight=1.0,
)
quality = 'none'
