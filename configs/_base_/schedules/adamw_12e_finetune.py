# Fine-tuning: the pretrained backbone learns at a tenth of the rate of what starts at random.
_base_ = 'adamw_12e.py'

optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
)
