"""ATSSHeadX's targets of a batch at once against mmdet's, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from helpers.random_batches import Batch, random_batch
from helpers.small_heads import ATSS, FOCAL, METAS, SIZE, STRIDES, build
from mmfocalx.models.targets import Positives, max_iou

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
BATCHES = 20
ASSIGNERS = {
    'defaults': {},
    'one candidate': dict(topk=1),
    'more than the last level has': dict(topk=30),
    'all of the first level': dict(topk=200),
    'ignored': dict(ignore_iof_thr=0.5),
    'nearly all ignored': dict(ignore_iof_thr=0.01, topk=4),
}
HEADS = {
    'defaults': {},
    'border 0': dict(allowed_border=0),
    'border 5': dict(allowed_border=5),
    'positives weigh 2': dict(pos_weight=2.0),
    'six anchors a place': dict(scales_per_octave=2, ratios=[0.5, 1.0, 2.0]),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


@pytest.fixture
def _all_rows(monkeypatch):
    """What a device other than the CPU has at hand: all rows."""
    monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))


def pair(assigner=None, extra=None, **settings):
    extra = dict(extra or {})
    train_cfg = copy.deepcopy(ATSS['train_cfg'])
    train_cfg['assigner'].update(assigner or {})
    train_cfg.update({k: extra.pop(k) for k in ('allowed_border', 'pos_weight') if k in extra})
    settings |= dict(train_cfg=train_cfg, loss_cls=FOCAL)
    settings |= dict(anchor_generator=dict(ATSS['anchor_generator'], **extra))
    return build('ATSSHead', **settings), build('ATSSHeadX', quality='none', **settings)


def targets_of(head, batch):
    anchors, flags = head.get_anchors(SIZES, batch.metas, device='cpu')
    return head.get_targets(anchors, flags, batch.objects, batch.metas, batch.ignored)


def assert_same(theirs, ours, batch):
    assert ours.takes_batch(batch.objects)
    *expected, num_pos = targets_of(theirs, batch)
    *got, our_num_pos = targets_of(ours, batch)
    assert len(got) == len(expected) == 5
    for expected_levels, got_levels in zip(expected, got, strict=True):
        for a, b in zip(expected_levels, got_levels, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    assert float(our_num_pos) == num_pos


@pytest.mark.parametrize('extra', HEADS)
@pytest.mark.parametrize('assigner', ASSIGNERS)
def test_equal_to_mmdet(assigner, extra):
    theirs, ours = pair(ASSIGNERS[assigner], HEADS[extra])
    first = BATCHES * (list(ASSIGNERS).index(assigner) * len(HEADS) + list(HEADS).index(extra))
    positives = 0
    for seed in range(first, first + BATCHES):
        batch = random_batch(seed, ignore='ignored' in assigner)
        assert_same(theirs, ours, batch)
        positives += sum(int((level < 3).sum()) for level in targets_of(ours, batch)[1])
    assert positives or assigner == 'one candidate'


@pytest.mark.usefixtures('_all_rows')
@pytest.mark.parametrize('extra', HEADS)
def test_equal_where_all_rows_are_at_hand(extra):
    """As on a GPU, where nobody counts the positives."""
    theirs, ours = pair(ASSIGNERS['ignored'], HEADS[extra])
    for seed in range(2000, 2005):
        assert_same(theirs, ours, random_batch(seed, ignore=True))


def test_equal_in_pieces_of_one_object(monkeypatch):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', 1)
    theirs, ours = pair(ASSIGNERS['ignored'], HEADS['border 5'])
    for seed in range(3000, 3005):
        assert_same(theirs, ours, random_batch(seed, ignore=True))


def test_the_first_of_identical_objects_is_taken():
    theirs, ours = pair()
    boxes = theirs.prior_generator.grid_priors(SIZES, device='cpu')[0][[40, 40, 41, 40]]
    image = InstanceData(bboxes=boxes, labels=torch.tensor([2, 0, 1, 1]))
    batch = Batch([image], [METAS[0]], None)
    assert_same(theirs, ours, batch)
    assert targets_of(ours, batch)[1][0][0, 40] == 2


def test_candidates_that_all_overlap_alike():
    """Then mean plus deviation is compared with the mean itself, and the last bit decides."""
    theirs, ours = pair()
    for count in range(1, 12):
        corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * 90
        boxes = torch.cat([corner, corner + 0.37], dim=1)
        image = InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long))
        others = random_batch(count, images=2).objects
        assert_same(theirs, ours, Batch([image, *others], [METAS[0]] * 3, None))


@pytest.mark.parametrize('rows', ['the positives', 'all rows'])
@pytest.mark.parametrize('extra', ['defaults', 'border 5', 'positives weigh 2'])
def test_losses_are_those_of_mmdet(monkeypatch, extra, rows):
    """Images of ever other shapes, so that what is kept between calls is used and replaced."""
    if rows == 'all rows':
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))
    for loss in ('GIoULoss', 'IoULoss', 'DIoULoss'):
        theirs, ours = pair(ASSIGNERS['ignored'], HEADS[extra], loss_bbox=dict(type=loss))
        for seed in [*range(5000, 5004), 5000]:
            height = SIZE if seed % 2 else SIZE - 32
            features = [torch.randn(3, 8, height // stride, SIZE // stride) for stride in STRIDES]
            batch = random_batch(seed, ignore=True, images=3)
            expected, got = (each.loss_by_feat(*each(features), *batch) for each in (theirs, ours))
            totals = []
            for losses in (expected, got):
                values = [sum(v) if isinstance(v, list) else v for v in losses.values()]
                totals.append((values, sum(values)))
            for a, b in zip(totals[0][0], totals[1][0], strict=True):
                torch.testing.assert_close(b, a, rtol=2e-5, atol=1e-6)
            grads = [
                torch.autograd.grad(total, list(each.parameters()), allow_unused=True)
                for each, (_, total) in zip((theirs, ours), totals, strict=True)
            ]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def test_anchors_outside_the_image():
    theirs, ours = pair(extra=dict(allowed_border=0))
    batch = random_batch(0, images=1)
    batch.metas[0]['img_shape'] = (2, 2)
    for each in (theirs, ours):
        with pytest.raises(ValueError, match='allowed_border'):
            targets_of(each, batch)
