"""RepPointsHeadX's targets of a batch at once against mmdet's, to the last bit, in both stages."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from helpers.random_batches import random_batch
from helpers.small_heads import FOCAL, METAS, SIZE, STRIDES, build
from mmfocalx.models.targets import Positives, max_iou

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
BOXES = dict(type='MaxIoUAssigner', pos_iou_thr=0.3, neg_iou_thr=0.2, min_pos_iou=0)
POINTS = dict(type='PointAssigner', scale=4, pos_num=1)


def stages(init=POINTS, refine=BOXES, pos_weight=-1):
    return dict(
        train_cfg=ConfigDict(
            init=dict(assigner=init, pos_weight=-1),
            refine=dict(assigner=refine, pos_weight=pos_weight),
        )
    )


SETTINGS = {
    'defaults': stages(),
    'four points': stages(dict(POINTS, pos_num=4)),
    'many points': stages(dict(POINTS, scale=16, pos_num=14)),
    'another scale': stages(dict(POINTS, scale=1, pos_num=3)),
    'boxes first': stages(BOXES),
    'ignored': stages(BOXES, dict(BOXES, ignore_iof_thr=0.3), pos_weight=2.0),
    'no low quality': stages(refine=dict(BOXES, match_low_quality=False)),
    'extremes': dict(stages(), transform_method='minmax'),
    'some extremes': dict(stages(), transform_method='partial_minmax'),
    'a grid': dict(stages(), use_grid_points=True),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def pair(settings):
    settings = {'loss_cls': FOCAL, **settings}
    return build('RepPointsHead', **settings), build('RepPointsHeadX', quality='none', **settings)


def predictions(head, images, seed=0):
    torch.manual_seed(seed)
    return head([torch.randn(images, 8, *size) for size in SIZES])


def mmdets(head, outs, batch):
    """What mmdet's loss has of ``get_targets`` in each stage: by name, image after image."""
    found, whole = {}, head.get_targets

    def recorded(*args, stage, **kwargs):
        result = whole(*args, stage=stage, **kwargs)
        *levels, num_pos = result
        found[stage] = [torch.cat(each, dim=1).flatten(0, 1) for each in levels], num_pos
        return result

    head.get_targets = recorded
    try:
        losses = head.loss_by_feat(*outs, *batch)
    finally:
        del head.get_targets
    return found, {name: sum(levels) for name, levels in losses.items()}


def assert_same(theirs, ours, batch, seed=0):
    """The number of positives, which are the same."""
    assert ours.takes_batch(batch.objects)
    outs = predictions(theirs, len(batch.objects), seed)
    expected, _ = mmdets(theirs, outs, batch)
    positives = 0
    for stage, got in zip(('init', 'refine'), ours.match(outs[1], *batch), strict=True):
        (labels, label_weights, boxes, _, box_weights), num_pos = expected[stage]
        assert float(got.num_pos) == num_pos
        assert torch.equal(got.labels, labels) and got.labels.dtype == labels.dtype
        assert torch.equal(got.label_weights, label_weights)
        assert torch.equal(got.positives.mask, box_weights[:, 0] > 0)
        assert torch.equal(got.boxes, boxes[got.positives.mask])
        assert (got.box_weights == 1).all()
        positives += len(got.boxes)
    return positives


@pytest.mark.parametrize('pairs_at_once', [1, 1 << 17])
@pytest.mark.parametrize('settings', SETTINGS)
def test_equal_to_mmdet(monkeypatch, settings, pairs_at_once):
    monkeypatch.setitem(max_iou.PAIRS_AT_ONCE, 'cpu', pairs_at_once)
    theirs, ours = pair(SETTINGS[settings])
    found = [
        assert_same(theirs, ours, random_batch(seed, ignore='ignored' in settings), seed)
        for seed in range(20)
    ]
    assert sum(found) > 60


@pytest.mark.parametrize('strides', [(8, 12, 32), (4, 16, 32), (10, 20, 48)])
def test_strides_that_share_an_octave_or_leave_one_out(strides):
    theirs, ours = pair(dict(stages(dict(POINTS, pos_num=2)), point_strides=list(strides)))
    found = 0
    for seed in range(20):
        batch = random_batch(seed)
        if not any(_is_between(image.bboxes, strides) for image in batch.objects):
            found += assert_same(theirs, ours, batch, seed)
    assert found > 40


def _is_between(boxes, strides):
    """Whether an object is of an octave that no level has: mmdet then fails."""
    octaves = {int(math.log2(stride)) for stride in strides}
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6) / POINTS['scale']
    octave = (side.log2().mean(dim=1)).int().clamp(min(octaves), max(octaves))
    return not octaves.issuperset(octave.tolist())


def test_an_object_of_an_octave_that_no_level_has():
    """mmdet fails; here the object has no initial points."""
    theirs, ours = pair(dict(stages(), point_strides=[4, 32, 64]))
    image = InstanceData(bboxes=torch.tensor([[10.0, 10.0, 50.0, 50.0]]), labels=torch.tensor([1]))
    batch = random_batch(0)._replace(objects=[image], metas=METAS[:1], ignored=None)
    outs = predictions(theirs, 1)
    with pytest.raises(RuntimeError, match='out of range'):
        theirs.loss_by_feat(*outs, *batch)
    init, refine = ours.match(outs[1], *batch)
    assert not init.positives.mask.any() and refine.positives.mask.any()


def test_points_at_equal_distances():
    """Centres on the grid and halfway between its points, of square boxes and others."""
    theirs, ours = pair(stages(dict(POINTS, pos_num=5)))
    corner = torch.cartesian_prod(torch.arange(8, 60, 4.0), torch.arange(8, 60, 12.0))
    for width, height in ((16, 16), (24, 24), (32, 16), (20, 28)):
        boxes = torch.cat([corner, corner + torch.tensor([width, height])], dim=1)
        image = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)) % 3)
        batch = random_batch(0)._replace(objects=[image], metas=METAS[:1], ignored=None)
        assert assert_same(theirs, ours, batch) > 50


def test_more_points_than_a_level_has():
    """mmdet fails; here all of them are taken."""
    theirs, ours = pair(stages(dict(POINTS, pos_num=100)))
    image = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 180.0, 180.0]]), labels=torch.tensor([1]))
    batch = random_batch(0)._replace(objects=[image], metas=METAS[:1], ignored=None)
    outs = predictions(theirs, 1)
    with pytest.raises(RuntimeError, match='out of range'):
        theirs.loss_by_feat(*outs, *batch)
    init, _ = ours.match(outs[1], *batch)
    last = SIZES[-1][0] * SIZES[-1][1]
    assert init.positives.mask.sum() == last < 100


@pytest.mark.parametrize('rows', ['the positives', 'all rows'])
@pytest.mark.parametrize('settings', SETTINGS)
def test_losses_are_those_of_mmdet(monkeypatch, settings, rows):
    if rows == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))
    for loss in ('SmoothL1Loss', 'GIoULoss'):
        of_boxes = {f'loss_bbox_{stage}': dict(type=loss) for stage in ('init', 'refine')}
        theirs, ours = pair({**SETTINGS[settings], **of_boxes})
        for seed in (1, 2, 4):
            batch = random_batch(seed, images=2, ignore='ignored' in settings)
            _, expected = mmdets(theirs, predictions(theirs, 2), batch)
            got = ours.loss_by_feat(*predictions(ours, 2), *batch)
            got = {k: sum(v) if isinstance(v, list) else v for k, v in got.items()}
            for name, value in expected.items():
                torch.testing.assert_close(got[name], value, rtol=2e-5, atol=1e-6)
            grads = [
                torch.autograd.grad(sum(losses.values()), list(head.parameters()))
                for head, losses in ((theirs, expected), (ours, got))
            ]
            for a, b in zip(*grads, strict=True):
                torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
