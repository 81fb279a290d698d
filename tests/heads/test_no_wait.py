"""The host never waits: tensors of the device meta have no values to read.

``.item()``, ``bool()``, ``nonzero`` and an index of booleans raise for them at once.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.small_heads import HEADS, KINDS, METAS, batch, box_loss, box_losses, build
from mmfocalx.losses.catalogue import classification_losses

NUM_CLASSES = 3
RETINA_IGNORING = dict(
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, ignore_iof_thr=0.5),
        sampler=dict(type='PseudoSampler'),
        allowed_border=0,
        pos_weight=2.0,
    )
)

ATSS_IGNORING = dict(
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=4, ignore_iof_thr=0.5),
        sampler=dict(type='PseudoSampler'),
        allowed_border=0,
        pos_weight=2.0,
    )
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def objects(count, device='meta'):
    boxes = torch.rand(count, 4, device=device)
    return InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long, device=device))


def predictions(head):
    """Of the shapes of real ones: mmcv's deformable convolution does not run on meta."""
    features, _ = batch()
    with torch.no_grad():
        outs = head(features)
    head.to('meta')
    return [[level.to('meta').requires_grad_() for level in levels] for levels in outs]


def losses_on_meta(head, counts, *ignored, outs=None):
    outs = predictions(head) if outs is None else outs
    return head.loss_by_feat(*outs, [objects(n) for n in counts], METAS, *ignored)


def config_of(name):
    return classification_losses()[name].example_config(NUM_CLASSES)


OF_COORDINATES = ('L1Loss', 'SmoothL1Loss', 'BalancedL1Loss', 'MSELoss')
WAITING = {name for name, loss in classification_losses().items() if loss.waits_for_positives}


def test_one_loss_waits_and_says_so():
    assert {'RankSortLossX'} == WAITING
    assert 'The host waits once' in classification_losses()['RankSortLossX'].__doc__


@pytest.mark.parametrize('loss', sorted(classification_losses().keys() - WAITING))
@pytest.mark.parametrize('kind', KINDS)
def test_no_value_is_read(kind, loss):
    head = build(kind, loss_cls=config_of(loss))
    outs = predictions(head)
    for head.quality, head.normalizer in itertools.product(
        ('iou', 'giou', 'none'), ('num_pos', 'score_sum')
    ):
        for counts in ((4, 1), (0, 3), (0, 0)):
            got = losses_on_meta(head, counts, outs=outs)
            assert all(value.shape == () for value in got.values())
        sum(got.values()).backward(retain_graph=True)


@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_no_scale_and_no_balance_reads_a_value(kind, scale):
    settings = dict(quality_scale=scale, box_balance='self')
    head = build(kind, loss_cls=config_of('VarifocalLossX'), **settings)
    outs = predictions(head)
    for counts in ((4, 1), (0, 3), (0, 0)):
        losses_on_meta(head, counts, outs=outs)


@pytest.mark.parametrize(
    'of_boxes',
    [*OF_COORDINATES, 'IoULoss', 'GIoULoss', 'DIoULoss',
     'CIoULoss', 'EIoULoss', 'SIoULoss', 'BoundedIoULoss', 'FocalEIoULossX'],
)  # fmt: skip
@pytest.mark.parametrize('kind', KINDS)
def test_no_box_loss_reads_a_value(kind, of_boxes):
    if kind in ('FCOSHeadX', 'ATSSHeadX') and of_boxes in OF_COORDINATES:
        pytest.skip('a loss of coordinates does not take weights of boxes')
    extra = dict(reg_decoded_bbox='IoU' in of_boxes) if kind == 'RetinaHeadX' else {}
    extra |= {name: dict(type=of_boxes) for name in box_losses(kind)}
    head = build(kind, loss_cls=config_of('VarifocalLossX'), **extra)
    assert box_loss(losses_on_meta(head, (4, 0))).shape == ()


@pytest.mark.parametrize(
    'settings',
    ['all of MaxIoUAssigner', 'all of ATSSAssigner', 'centres', 'no centerness', 'points'],
)
def test_no_setting_reads_a_value(settings):
    loss = dict(loss_cls=config_of('VarifocalLossX'))
    if settings == 'all of MaxIoUAssigner':
        head = build('RetinaHeadX', **loss, **RETINA_IGNORING)
        losses_on_meta(head, (4, 0), [objects(2), None])
        return
    if settings == 'all of ATSSAssigner':
        head = build('ATSSHeadX', **loss, **ATSS_IGNORING)
        losses_on_meta(head, (4, 0), [objects(2), None])
        return
    if settings == 'points':
        of_boxes = RETINA_IGNORING['train_cfg']
        stages = dict(train_cfg=dict(init=of_boxes, refine=of_boxes))
        for method in ('minmax', 'partial_minmax', 'moment'):
            head = build('RepPointsHeadX', **loss, **stages, transform_method=method)
            losses_on_meta(head, (4, 0), [objects(2), None])
        return
    extra = dict(center_sampling=True, norm_on_bbox=True)
    if settings == 'centres':
        losses_on_meta(build('FCOSHeadX', **loss, **extra), (4, 0))
        return
    for kind in ('FCOSHeadX', 'ATSSHeadX'):
        losses_on_meta(build(kind, **loss, centerness=False), (4, 0))


@pytest.mark.parametrize('kind', HEADS)
def test_mmdets_heads_read_values(kind):
    """So the tests above can fail."""
    head = build(kind, loss_cls=config_of('FocalLossX'))
    with pytest.raises((RuntimeError, NotImplementedError)):
        losses_on_meta(head, (4, 1))
