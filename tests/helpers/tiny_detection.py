"""A detector and a data set so small that an epoch takes a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('disc', 'bar')
SIZE = 64

CONFIG = """
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
default_scope = 'mmdet'
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(depth=18, base_channels=8, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16, num_outs=3),
    bbox_head=dict(num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1,
        anchor_generator=dict(strides=[8, 16, 32]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma={gamma}, loss_weight=1.0)),
    test_cfg=dict(max_per_img=20))
data_root = '{data}/'
metainfo = dict(classes=('disc', 'bar'))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
        'scale_factor')),
]
dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo,
    ann_file='annotations.json', data_prefix=dict(img='images/'), pipeline=pipeline)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(test_mode=True, **dataset),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'annotations.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs={epochs}, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
"""


def write_dataset(root: Path, images: int = 8) -> Path:
    """Images with one bright disc and one dark bar each, as JPEG + COCO JSON."""
    (root / 'images').mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    records, boxes = [], []
    for index in range(images):
        picture = rng.integers(90, 130, (SIZE, SIZE, 3), dtype=np.uint8)
        x, y = (int(value) for value in rng.integers(10, 22, 2))
        picture[(rows - y) ** 2 + (columns - x) ** 2 < 81] = 250
        left, top = (int(value) for value in rng.integers(32, 42, 2))
        picture[top : top + 20, left : left + 12] = 10
        name = f'{index}.jpg'
        Image.fromarray(picture).save(root / 'images' / name)
        records.append(dict(id=index, file_name=name, width=SIZE, height=SIZE))
        for category, (x0, y0, w, h) in enumerate([(x - 8, y - 8, 17, 17), (left, top, 12, 20)], 1):
            boxes.append(
                dict(id=len(boxes) + 1, image_id=index, category_id=category, iscrowd=0,
                     bbox=[x0, y0, w, h], area=w * h)
            )  # fmt: skip
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    content = dict(images=records, annotations=boxes, categories=categories)
    (root / 'annotations.json').write_text(json.dumps(content))
    return root


def write_config(path: Path, data: Path, gamma: float = 2.0, epochs: int = 3) -> Path:
    """A RetinaNet config on that data set."""
    path.write_text(CONFIG.format(data=data, gamma=gamma, epochs=epochs).lstrip())
    return path
