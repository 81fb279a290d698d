# Of masks, in place of SOLO's dice loss.
loss_mask = dict(
    type='FocalDiceLossX',
    use_sigmoid=True,
    gamma=2.0,
    alpha=0.25,
    focal_weight=1.0,
    dice_weight=1.0,
    smooth=1.0,
    loss_weight=3.0,
)
