_base_ = 'retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py'
model = dict(
    bbox_head=dict(
        reg_decoded_bbox=True,  # the loss compares boxes, not their encoded offsets
        loss_bbox=dict(_delete_=True, type='GIoULoss'),
    )
)
