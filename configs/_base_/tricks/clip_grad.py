# Clipping: gradients longer than 10 are scaled to that length; the log then shows grad_norm, from
# which to choose another one. In a config that lists this file among its bases:
#     optim_wrapper = dict(clip_grad=_base_.clip_grad)
# On the command line:
#     --cfg-options optim_wrapper.clip_grad.max_norm=10.0
clip_grad = dict(max_norm=10.0)
