_base_ = 'mmdet::solo/solo_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
default_hooks = dict(num_classes=dict(type='NumClassesHook'))
model = dict(
    mask_head=dict(
        loss_mask=dict(_delete_=True, type='FocalDiceLossX', use_sigmoid=True, loss_weight=3.0)
    )
)
