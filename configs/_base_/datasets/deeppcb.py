# Defects of circuit boards, https://github.com/tangsanli5201/DeepPCB (MIT), in COCO format.
# DEEPPCB_ROOT in the environment takes the place of data/deeppcb.
_base_ = 'bccd.py'

data_root = '{{$DEEPPCB_ROOT:data/deeppcb}}'
metainfo = dict(classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'))

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].scale = (320, 320)
test_pipeline[1].scale = (320, 320)
boards = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, **boards))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline, **boards))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, **boards))
metrics = ('CocoMetric', 'ScoreQualityMetric')
val_evaluator = [dict(type=one, ann_file=f'{data_root}/val.json') for one in metrics]
test_evaluator = [dict(type=one, ann_file=f'{data_root}/test.json') for one in metrics]
