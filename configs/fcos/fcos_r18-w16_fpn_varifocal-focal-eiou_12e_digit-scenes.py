_base_ = 'fcos_r18-w16_fpn_varifocal_12e_digit-scenes.py'
model = dict(bbox_head=dict(loss_bbox=dict(_delete_=True, type='FocalEIoULossX')))
