"""FCOSHeadX's targets of a batch at once against mmdet's, to the last bit."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from helpers.random_batches import Batch, random_batch
from helpers.small_heads import FOCAL, SIZE, STRIDES, build
from mmfocalx.models.targets import Positives, max_iou

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
SETTINGS = {
    'defaults': {},
    'other ranges': dict(regress_ranges=((-1, 40), (10, 60), (30, 1e8))),
    'normalized': dict(norm_on_bbox=True),
    'centres': dict(center_sampling=True),
    'near centres': dict(center_sampling=True, center_sample_radius=0.3),
    'centres, normalized': dict(center_sampling=True, norm_on_bbox=True),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def pair(settings):
    settings = {'loss_cls': FOCAL, **settings}
    return build('FCOSHead', **settings), build('FCOSHeadX', quality='none', **settings)


def targets_of(head, batch):
    return head.get_targets(head.prior_generator.grid_priors(SIZES, device='cpu'), batch.objects)


def assert_same(theirs, ours, batch):
    assert ours.takes_batch(batch.objects)
    for expected, got in zip(targets_of(theirs, batch), targets_of(ours, batch), strict=True):
        for a, b in zip(expected, got, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


@pytest.mark.parametrize('pairs_at_once', [1, 1 << 17])
@pytest.mark.parametrize('settings', SETTINGS)
def test_equal_to_mmdet(monkeypatch, settings, pairs_at_once):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', pairs_at_once)
    theirs, ours = pair(SETTINGS[settings])
    positives = 0
    for seed in range(25):
        batch = random_batch(seed)
        assert_same(theirs, ours, batch)
        positives += sum((level < 3).sum() for level in targets_of(ours, batch)[0])
    assert positives > 15


def test_an_object_larger_than_mmdets_infinity():
    """Its area counts as none beside another object, and as an object when it is alone."""
    theirs, ours = pair({})
    for count in (1, 2):
        boxes = torch.tensor([[-1e5, -1e5, 2e4, 2e4], [200.0, 200.0, 210.0, 210.0]])[:count]
        image = InstanceData(bboxes=boxes, labels=torch.arange(count))
        assert_same(theirs, ours, Batch([image], [], None))


@pytest.mark.parametrize('rows', ['the positives', 'all rows'])
@pytest.mark.parametrize('settings', SETTINGS)
def test_losses_are_those_of_mmdet(monkeypatch, settings, rows):
    if rows == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))
    for loss in ('GIoULoss', 'IoULoss', 'DIoULoss'):
        theirs, ours = pair({**SETTINGS[settings], 'loss_bbox': dict(type=loss)})
        features = [torch.randn(2, 8, *size) for size in SIZES]
        for seed in range(3):
            batch = random_batch(seed, images=2)
            expected, got = (
                each.loss_by_feat(*each(features), batch.objects, batch.metas)
                for each in (theirs, ours)
            )
            for name, value in expected.items():
                torch.testing.assert_close(got[name], value, rtol=2e-5, atol=1e-6)
            grads = [
                torch.autograd.grad(sum(losses.values()), list(each.parameters()))
                for each, losses in ((theirs, expected), (ours, got))
            ]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
