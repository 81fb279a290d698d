"""On a GPU: no wait, and the targets that mmdet computes there."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.random_batches import random_batch
from helpers.small_heads import FOCAL, METAS, SIZE, STRIDES, VARIFOCAL, batch, build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def on_cuda(instances):
    return [None if image is None else image.cuda() for image in instances]


@pytest.mark.parametrize(
    ('kind', 'extra'),
    [
        ('RetinaHeadX', {}),
        ('RetinaHeadX', dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))),
        ('FCOSHeadX', {}),
        ('FCOSHeadX', dict(loss_bbox=dict(type='IoULoss'))),
        ('FCOSHeadX', dict(quality_scale='object', box_balance='self')),
        ('ATSSHeadX', {}),
        ('ATSSHeadX', dict(quality_scale='image', centerness=False)),
        ('FoveaHeadX', {}),
        ('FoveaHeadX', dict(quality_scale='object', box_balance='self')),
        ('RepPointsHeadX', {}),
        ('RepPointsHeadX', dict(quality_scale='image', transform_method='minmax')),
    ],
)
def test_no_wait(kind, extra):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL, **extra).cuda()
    outs = head([level.cuda() for level in features])
    instances = on_cuda(instances)
    head.loss_by_feat(*outs, instances, METAS)  # compiles, and keeps the anchors
    torch.cuda.set_sync_debug_mode('error')
    try:
        head.loss_by_feat(*outs, instances, METAS)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize(
    ('kind', 'extra'),
    [('RetinaHead', {}), ('RetinaHead', dict(reg_decoded_bbox=True)), ('ATSSHead', {})],
)
def test_anchor_targets_are_mmdets(kind, extra):
    theirs = build(kind, loss_cls=FOCAL, **extra).cuda()
    ours = build(f'{kind}X', loss_cls=FOCAL, quality='none', **extra).cuda()
    for seed in range(30):
        objects, metas, ignored = random_batch(seed, ignore=True)
        got, expected = (
            head.get_targets(
                *head.get_anchors(SIZES, metas, device='cuda'),
                on_cuda(objects),
                metas,
                on_cuda(ignored),
            )
            for head in (ours, theirs)
        )
        for our_levels, their_levels in zip(got[:-1], expected[:-1], strict=True):
            assert all(map(torch.equal, our_levels, their_levels))
        assert float(got[-1]) == expected[-1]


@pytest.mark.parametrize('extra', [{}, dict(center_sampling=True, norm_on_bbox=True)])
def test_point_targets_are_mmdets(extra):
    theirs = build('FCOSHead', loss_cls=FOCAL, **extra).cuda()
    ours = build('FCOSHeadX', loss_cls=FOCAL, quality='none', **extra).cuda()
    points = theirs.prior_generator.grid_priors(SIZES, device='cuda')
    for seed in range(30):
        objects = on_cuda(random_batch(seed).objects)
        for got, expected in zip(
            ours.get_targets(points, objects), theirs.get_targets(points, objects), strict=True
        ):
            assert all(map(torch.equal, got, expected))
