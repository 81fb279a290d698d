_base_ = [
    'retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py',
    '../_base_/losses/focal_eiou.py',
]
model = dict(
    bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(_delete_=True, **_base_.loss_bbox))
)
