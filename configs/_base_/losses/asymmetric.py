loss_cls = dict(
    type='AsymmetricLossX',
    use_sigmoid=True,
    gamma_pos=1.0,
    gamma_neg=4.0,
    clip=0.05,
    loss_weight=1.0,
)
quality = 'none'
