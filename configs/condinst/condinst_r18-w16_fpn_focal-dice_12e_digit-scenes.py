_base_ = 'condinst_r18-w16_fpn_mmdet-dice_12e_digit-scenes.py'
model = dict(mask_head=dict(loss_mask=dict(_delete_=True, type='FocalDiceLossX', use_sigmoid=True)))
