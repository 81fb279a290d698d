"""The targets of a batch at once against mmdet's, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

from helpers.random_batches import random_batch
from helpers.small_heads import FOCAL, RETINA, SIZE, STRIDES, build

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
BATCHES = 24
SETTINGS = {
    'defaults': {},
    'a high threshold': dict(pos_iou_thr=0.7, neg_iou_thr=0.3),
    'equal thresholds': dict(pos_iou_thr=0.5, neg_iou_thr=0.5),
    'a low threshold': dict(pos_iou_thr=0.05, neg_iou_thr=0.05),
    'negatives from 0.1': dict(neg_iou_thr=(0.1, 0.4)),
    'no negatives': dict(neg_iou_thr=0),
    'min_pos_iou 0.3': dict(min_pos_iou=0.3),
    'min_pos_iou above all': dict(min_pos_iou=2.0),
    'min_pos_iou below 0': dict(min_pos_iou=-1.0),
    'one anchor of the best': dict(gt_max_assign_all=False),
    'one anchor, min_pos_iou 0.2': dict(gt_max_assign_all=False, min_pos_iou=0.2),
    'no low-quality matches': dict(match_low_quality=False),
    'on the CPU from 3 objects': dict(gpu_assign_thr=3),
    'ignored by anchors': dict(ignore_iof_thr=0.5),
    'ignored by boxes': dict(ignore_iof_thr=0.1, ignore_wrt_candidates=False),
    'ignored, one anchor': dict(ignore_iof_thr=0.3, gt_max_assign_all=False, min_pos_iou=-1.0),
    'ignored, all of it': dict(
        ignore_iof_thr=0.2, min_pos_iou=0.1, neg_iou_thr=(0.05, 0.3), pos_iou_thr=0.4
    ),
}
HEADS = {
    'defaults': {},
    'border 0': dict(allowed_border=0),
    'border 5': dict(allowed_border=5),
    'positives weigh 2': dict(pos_weight=2.0),
    'decoded': dict(reg_decoded_bbox=True),
    'scaled deltas': dict(target_means=[0.1, -0.2, 0.3, 0.0], target_stds=[0.1, 0.3, 0.7, 1.0]),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def head(kind, settings, extra):
    extra = dict(extra)
    train_cfg = copy.deepcopy(RETINA['train_cfg'])
    train_cfg['assigner'].update(settings)
    for name in ('allowed_border', 'pos_weight'):
        train_cfg[name] = extra.pop(name, -1)
    coder = dict(RETINA['bbox_coder'])
    coder.update((name, extra.pop(name)) for name in list(extra) if name.startswith('target_'))
    return build(kind, loss_cls=FOCAL, train_cfg=train_cfg, bbox_coder=coder, **extra)


def pair(settings=None, extra=None):
    theirs = head('RetinaHead', settings or {}, extra or {})
    return theirs, head('RetinaHeadX', settings or {}, {**(extra or {}), 'quality': 'none'})


def targets_of(head, batch):
    anchors, flags = head.get_anchors(SIZES, batch.metas, device='cpu')
    return head.get_targets(anchors, flags, batch.objects, batch.metas, batch.ignored)


def assert_same(theirs, ours, batch):
    *expected, num_pos = targets_of(theirs, batch)
    *got, our_num_pos = targets_of(ours, batch)
    for expected_levels, got_levels in zip(expected, got, strict=True):
        for a, b in zip(expected_levels, got_levels, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b) or torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    assert float(our_num_pos) == num_pos


@pytest.mark.parametrize('extra', HEADS)
@pytest.mark.parametrize('settings', SETTINGS)
def test_equal_to_mmdet(settings, extra):
    theirs, ours = pair(SETTINGS[settings], HEADS[extra])
    for seed in range(BATCHES // 4):
        seed = hash((settings, extra, seed)) if False else seed + 100 * len(settings) + len(extra)
        assert_same(theirs, ours, random_batch(seed, ignore='ignored' in settings))
