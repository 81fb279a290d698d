# Shows what drives the losses of this package in scalars.json and, if among vis_backends, in
# TensorBoard. A config that lists custom_hooks itself adds this one to them.
custom_hooks = [dict(type='LossSignalsHook', interval=50)]
