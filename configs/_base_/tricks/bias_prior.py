# Bias prior: every score starts at 0.001 instead of mmdet's 0.01, which suits more classes or
# denser predictions. In a config that lists this file among its bases:
#     model = dict(bbox_head=dict(init_cfg=_base_.bias_prior))
# That is RetinaNet's layer; the name in override is conv_cls for FCOS.
# On the command line, in one argument for each:
#     --cfg-options model.bbox_head.init_cfg.type=Normal model.bbox_head.init_cfg.layer=Conv2d
#     model.bbox_head.init_cfg.std=0.01 model.bbox_head.init_cfg.override.type=Normal
#     model.bbox_head.init_cfg.override.name=retina_cls model.bbox_head.init_cfg.override.std=0.01
#     model.bbox_head.init_cfg.override.bias_prob=0.001
bias_prior = dict(
    type='Normal',
    layer='Conv2d',
    std=0.01,
    override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.001),
)
