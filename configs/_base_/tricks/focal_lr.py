# A fifth of the learning rate that cross-entropy trained with; a tenth is the next to try. In a
# config that lists this file among its bases:
#     optim_wrapper = dict(
#         optimizer=dict(lr=_base_.focal_lr_factor * _base_.optim_wrapper.optimizer.lr)
#     )
# On the command line, with the product:
#     --cfg-options optim_wrapper.optimizer.lr=0.0004
focal_lr_factor = 0.2
