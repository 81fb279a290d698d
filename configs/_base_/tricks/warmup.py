# Warm-up: the learning rate rises from a thousandth over 500 iterations. In a config that lists
# this file among its bases, before the other schedulers of the learning rate:
#     param_scheduler = [_base_.warmup, *(other schedulers)]
# On the command line, where the first scheduler is a LinearLR already:
#     --cfg-options param_scheduler.0.start_factor=0.001 param_scheduler.0.end=500
warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
