_base_ = 'dino_r18-w16_focal_12e_digit-scenes.py'
model = dict(bbox_head=dict(loss_cls=dict(_delete_=True, type='FocalLoss', use_sigmoid=True)))
