_base_ = [
    'mmdet::solo/solo_r50_fpn_1x_coco.py',
    '../_base_/use_mmfocalx.py',
    '../_base_/losses/focal_dice.py',
]
model = dict(mask_head=dict(loss_mask=dict(_delete_=True, **_base_.loss_mask)))
