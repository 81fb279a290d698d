# A ResNet narrow enough to train from scratch on a CPU in half a minute.
# The config that inherits sets num_classes and loss_cls.
model = dict(
    type='ImageClassifierX',
    data_preprocessor=dict(
        type='ImgDataPreprocessor',
        mean=[127.0, 127.0, 127.0],
        std=[64.0, 64.0, 64.0],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=16,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
    ),
    in_channels=64,
)
