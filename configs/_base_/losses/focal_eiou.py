# Of boxes; RetinaNet's head needs reg_decoded_bbox=True for it.
loss_bbox = dict(type='FocalEIoULossX', gamma=0.5, loss_weight=1.0)
