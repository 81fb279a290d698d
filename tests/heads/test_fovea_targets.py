"""FoveaHeadX's targets of a batch at once against mmdet's, to the last bit."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from helpers.random_batches import random_batch
from helpers.small_heads import FOCAL, SIZE, STRIDES, build
from mmfocalx.models.targets import Positives, max_iou

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
WIDE = [(SIZE // stride, 2 * SIZE // stride) for stride in STRIDES]
SETTINGS = {
    'defaults': {},
    'small middles': dict(sigma=0.2),
    'whole objects': dict(sigma=1.0),
    'one range': dict(scale_ranges=((0, 1e4),) * 3),
    'a range for none': dict(scale_ranges=((0, 24), (1e5, 1e6), (24, 512))),
    'other lengths': dict(base_edge_list=[12, 40, 70]),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def pair(settings):
    settings = {'loss_cls': FOCAL, **settings}
    return build('FoveaHead', **settings), build('FoveaHeadX', quality='none', **settings)


def mmdets(head, objects, sizes):
    """Labels and distances of an image after the other; mmdet has a level after the other."""
    points = head.prior_generator.grid_priors(sizes, device='cpu')
    counts = [len(objects) * len(level) for level in points]
    return [
        torch.cat([level.unflatten(0, (len(objects), -1)) for level in each.split(counts)], 1)
        for each in head.get_targets(objects, sizes, points)
    ]


def assert_same(theirs, ours, objects, sizes=SIZES):
    """The number of positives, which are the same."""
    assert ours.takes_batch(objects)
    labels, distances = mmdets(theirs, objects, sizes)
    got = ours.match([torch.zeros(len(objects), 3, *size) for size in sizes], objects)
    assert got.labels.dtype == labels.dtype
    assert torch.equal(got.labels, labels.flatten())
    assert got.deltas.dtype == distances.dtype
    positive = got.labels < 3
    assert torch.equal(positive, got.positives.mask)
    assert torch.equal(got.deltas, distances.flatten(0, 1)[positive])
    assert not distances.flatten(0, 1)[~positive].any()
    return int(positive.sum())


@pytest.mark.parametrize('pairs_at_once', [1, 1 << 17])
@pytest.mark.parametrize('settings', SETTINGS)
def test_equal_to_mmdet(monkeypatch, settings, pairs_at_once):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', pairs_at_once)
    theirs, ours = pair(SETTINGS[settings])
    seeds = range(25)
    objects = [random_batch(seed).objects for seed in seeds]
    assert sum(assert_same(theirs, ours, each) for each in objects) > 40
    for each in objects[:8]:
        assert_same(theirs, ours, each, sizes=WIDE)


def test_of_equal_objects_the_later_counts():
    """Also in a crowd, for which mmdet leaves the order of equal areas to ``torch.sort``."""
    theirs, ours = pair({})
    box = torch.tensor([[20.0, 24.0, 60.0, 64.0]])
    for count in (2, 16, 40):
        image = InstanceData(bboxes=box.repeat(count, 1), labels=torch.arange(count) % 3)
        got = ours.match([torch.zeros(1, 3, *size) for size in SIZES], [image])
        assert set(got.owners.number.tolist()) == {count}
        if count <= 16:
            assert_same(theirs, ours, [image])


def test_a_crowd_of_different_sizes():
    theirs, ours = pair({})
    torch.manual_seed(0)
    corner, side = torch.rand(300, 2) * 80, torch.rand(300, 2) * 40 + 4
    image = InstanceData(bboxes=torch.cat([corner, corner + side], 1), labels=torch.arange(300) % 3)
    assert assert_same(theirs, ours, [image]) > 100


@pytest.mark.parametrize('rows', ['the positives', 'all rows'])
@pytest.mark.parametrize('settings', SETTINGS)
def test_losses_are_those_of_mmdet(monkeypatch, settings, rows):
    if rows == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))
    for loss in ('SmoothL1Loss', 'L1Loss', 'MSELoss'):
        theirs, ours = pair({**SETTINGS[settings], 'loss_bbox': dict(type=loss)})
        features = [torch.randn(2, 8, *size) for size in SIZES]
        for seed in (1, 2, 4):
            batch = random_batch(seed, images=2)
            expected, got = (
                each.loss_by_feat(*each(features), batch.objects, batch.metas)
                for each in (theirs, ours)
            )
            for name, value in expected.items():
                torch.testing.assert_close(got[name], value, rtol=2e-5, atol=1e-6)
            grads = [
                torch.autograd.grad(
                    sum(losses.values()), list(each.parameters()), materialize_grads=True
                )
                for each, losses in ((theirs, expected), (ours, got))
            ]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
