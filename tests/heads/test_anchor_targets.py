"""The targets of a batch at once against mmdet's, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmdet.structures.bbox import HorizontalBoxes

from helpers.random_batches import Batch, random_batch
from helpers.small_heads import FOCAL, METAS, RETINA, SIZE, STRIDES, build
from mmfocalx.models.targets import Positives, max_iou

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
BATCHES = 5
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


NONE = dict(quality='none')


@pytest.fixture
def all_rows(monkeypatch):
    """What a device other than the CPU has at hand: all rows."""
    monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))


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
    return theirs, head('RetinaHeadX', settings or {}, {**(extra or {}), **NONE})


def targets_of(head, batch):
    anchors, flags = head.get_anchors(SIZES, batch.metas, device='cpu')
    return head.get_targets(anchors, flags, batch.objects, batch.metas, batch.ignored)


def assert_same(theirs, ours, batch):
    assert ours.takes_batch(batch.objects)
    *expected, num_pos = targets_of(theirs, batch)
    *got, our_num_pos = targets_of(ours, batch)
    for expected_levels, got_levels in zip(expected, got, strict=True):
        for a, b in zip(expected_levels, got_levels, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    assert float(our_num_pos) == num_pos


@pytest.mark.parametrize('extra', HEADS)
@pytest.mark.parametrize('settings', SETTINGS)
def test_equal_to_mmdet(settings, extra):
    theirs, ours = pair(SETTINGS[settings], HEADS[extra])
    first = BATCHES * (list(SETTINGS).index(settings) * len(HEADS) + list(HEADS).index(extra))
    for seed in range(first, first + BATCHES):
        assert_same(theirs, ours, random_batch(seed, ignore='ignored' in settings))


def test_the_batches_hold_what_they_are_for():
    """Ties, overwritten and low-quality matches, ignored anchors and images without boxes."""
    batches = [random_batch(seed, ignore=True) for seed in range(100)]
    theirs, _ = pair(dict(ignore_iof_thr=0.3))
    left_out = sum(
        (weights == 0).any().item() for b in batches for weights in targets_of(theirs, b)[1]
    )
    boxes = [image.bboxes for b in batches for image in b.objects]
    repeated = sum(len(image.unique(dim=0)) < len(image) for image in boxes)
    assert left_out > 100
    assert repeated > 20
    assert sum(len(image) == 0 for image in boxes) > 20
    assert {len(b.objects) for b in batches} == {1, 2, 3}


@pytest.mark.parametrize('extra', HEADS)
@pytest.mark.parametrize('settings', ['defaults', 'ignored, all of it'])
def test_equal_where_all_rows_are_at_hand(all_rows, settings, extra):
    """As on a GPU, where nobody counts the positives."""
    theirs, ours = pair(SETTINGS[settings], HEADS[extra])
    for seed in range(2000, 2000 + BATCHES):
        assert_same(theirs, ours, random_batch(seed, ignore=True))


@pytest.mark.parametrize(
    'settings',
    ['defaults', 'one anchor of the best', 'no low-quality matches', 'ignored by boxes'],
)
def test_equal_in_pieces_of_one_object(monkeypatch, settings):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', 1)
    theirs, ours = pair(SETTINGS[settings], HEADS['border 5'])
    for seed in range(3000, 3000 + BATCHES):
        assert_same(theirs, ours, random_batch(seed, ignore=True))


@pytest.mark.parametrize('pairs_at_once', [1, 1 << 17])
def test_the_first_of_identical_objects_is_taken(monkeypatch, pairs_at_once):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', pairs_at_once)
    theirs, ours = pair(dict(match_low_quality=False))
    boxes = theirs.prior_generator.grid_priors(SIZES, device='cpu')[0][[400, 400, 401, 400]]
    image = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0, 1, 1]))
    batch = Batch([image], [METAS[0]], None)
    assert_same(theirs, ours, batch)
    assert targets_of(ours, batch)[0][0][0, 400] == 2


def test_a_tiny_ignored_box():
    """Its area counts down to 1e-6 square pixels."""
    theirs, ours = pair(dict(ignore_iof_thr=0.5, ignore_wrt_candidates=False))
    tiny = InstanceData(bboxes=torch.tensor([[50.0, 50.0, 50.02, 50.02]]))
    batch = random_batch(1, images=1)._replace(ignored=[tiny])
    assert_same(theirs, ours, batch)
    assert any((level == 0).any() for level in targets_of(ours, batch)[1])


@pytest.mark.parametrize('anchors', ['tensors', 'box types'])
def test_equal_with_box_types(anchors):
    """Boxes of a data pipeline that does not turn box types into tensors."""
    extra = {}
    if anchors == 'box types':
        extra = dict(
            bbox_coder=dict(RETINA['bbox_coder'], use_box_type=True),
            anchor_generator=dict(RETINA['anchor_generator'], use_box_type=True),
        )
    for decoded in (True, False):
        settings = dict(extra, loss_cls=FOCAL, reg_decoded_bbox=decoded)
        theirs, ours = build('RetinaHead', **settings), build('RetinaHeadX', **settings, **NONE)
        for seed in range(4000, 4000 + BATCHES):
            batch = random_batch(seed, ignore=True)
            for image in (*batch.objects, *(i for i in batch.ignored if i is not None)):
                image.bboxes = HorizontalBoxes(image.bboxes)
            assert_same(theirs, ours, batch)


@pytest.mark.parametrize('extra', ['defaults', 'border 5', 'decoded'])
def test_losses_with_kept_anchors(extra):
    """Images of ever other shapes, so that what is kept between calls is used and replaced."""
    theirs, ours = pair(dict(ignore_iof_thr=0.3), HEADS[extra])
    for seed in [*range(5000, 5006), *range(5000, 5003)]:
        height = SIZE if seed % 2 else SIZE - 32
        features = [torch.randn(3, 8, height // stride, SIZE // stride) for stride in STRIDES]
        batch = random_batch(seed, ignore=True, images=3)
        for image in batch.objects:
            image.bboxes[:, 2:] += 1  # an empty box has infinite deltas
        for each in (theirs, ours):
            each.zero_grad()
        expected, got = (each.loss_by_feat(*each(features), *batch) for each in (theirs, ours))
        for name, levels in expected.items():
            value = sum(got[name]) if isinstance(got[name], list) else got[name]
            torch.testing.assert_close(value, sum(levels), rtol=2e-5, atol=1e-7)


def test_anchors_outside_the_image():
    theirs, ours = pair(extra=dict(allowed_border=0))
    batch = random_batch(0, images=1)
    batch.metas[0]['img_shape'] = (2, 2)
    for each in (theirs, ours):
        with pytest.raises(ValueError, match='allowed_border'):
            targets_of(each, batch)
    features = [torch.randn(1, 8, *size) for size in SIZES]
    with pytest.raises(ValueError, match='allowed_border'):
        ours.loss_by_feat(*ours(features), batch.objects, batch.metas)
