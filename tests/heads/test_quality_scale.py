"""``quality_scale`` against loops over the predictions of each object and image."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.random_batches import random_batch
from helpers.small_heads import (
    FOCAL,
    FOVEA,
    KINDS,
    METAS,
    SIZE,
    STRIDES,
    VARIFOCAL,
    Recorder,
    batch,
    build,
)
from mmfocalx.models.targets import Positives

SIZES = [(SIZE // stride, SIZE // stride) for stride in STRIDES]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


@pytest.fixture(params=['the positives', 'all rows'])
def _rows(request, monkeypatch):
    if request.param == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))


def predicted(head, images):
    torch.manual_seed(2)
    return head([torch.randn(images, 8, *size) for size in SIZES])


def scores_of(kind, instances, **settings):
    """(N,) scores that the loss of a head is given."""
    head = build(kind, **{'loss_cls': VARIFOCAL, **settings})
    head.loss_cls = Recorder(head.loss_cls)
    outs = predicted(head, len(instances))
    losses = head.loss_by_feat(*outs, instances, METAS[:1] * len(instances))
    assert all(torch.isfinite(value) for value in losses.values())
    ((_, (_, scores), _, _),) = head.loss_cls.calls
    return scores


def objects_of(kind, instances):
    """Per image, which object each prediction is assigned to in mmdet, -1 for none."""
    if kind in ('FCOSHeadX', 'FoveaHeadX'):
        find = locations_objects if kind == 'FCOSHeadX' else foveas_objects
        return [find(image) for image in instances]
    head = build(kind.removesuffix('X'), loss_cls=FOCAL)
    priors = [torch.cat(head.prior_generator.grid_priors(SIZES, device='cpu'))] * len(instances)
    assigner = head.assigner if kind != 'RepPointsHeadX' else head.refine_assigner
    if kind == 'RepPointsHeadX':
        priors = initial_boxes(head, len(instances))
    sizes = [[height * width for height, width in SIZES]] if kind == 'ATSSHeadX' else []
    found = [
        assigner.assign(InstanceData(priors=each), *sizes, image).gt_inds.tolist()
        for each, image in zip(priors, instances, strict=True)
    ]
    return [[max(number, 0) - 1 for number in numbers] for numbers in found]


def initial_boxes(head, images):
    """Per image, the (P, 4) boxes of the initial points, level by level and place by place."""
    levels = predicted(head, images)[1]
    boxes = [[] for _ in range(images)]
    for level, stride in zip(levels, STRIDES, strict=True):
        for image, row, column in itertools.product(*map(range, (images, *level.shape[2:]))):
            box = head.points2bbox(level[image, None, :, row, column].detach())[0]
            place = torch.tensor([column, row, column, row])
            boxes[image].append((box + place) * stride)
    return [torch.stack(each) for each in boxes]


def foveas_objects(image):
    """Which object each location of FoveaBox belongs to: the smallest in whose middle it lies."""
    objects = []
    for stride, (height, width), (low, high) in zip(
        STRIDES, SIZES, FOVEA['scale_ranges'], strict=True
    ):
        for row, column in itertools.product(range(height), range(width)):
            smallest, owner = float('inf'), -1
            for number, (x0, y0, x1, y1) in enumerate(image.bboxes.tolist()):
                area = (x1 - x0) * (y1 - y0)
                if low <= math.sqrt(area) <= high and area <= smallest:
                    in_middle = all(
                        cell in middle(start / stride, end / stride, length)
                        for cell, start, end, length in ((column, x0, x1, width),
                                                         (row, y0, y1, height))
                    )  # fmt: skip
                    if in_middle:
                        smallest, owner = area, number
            objects.append(owner)
    return objects


def middle(start, end, length):
    """The cells whose centres lie in the middle part, and at least the nearest of the map."""
    centre, reach = (start + end) / 2, FOVEA['sigma'] * (end - start) / 2
    first, last = math.ceil(centre - reach - 0.5), math.floor(centre + reach - 0.5)
    return range(min(max(first, 0), length - 1), min(max(last, 0), length - 1) + 1)


def locations_objects(image):
    """Which object each location of FCOS belongs to: the smallest that it is a candidate for."""
    objects = []
    ranges = ((-1, 24), (24, 48), (48, 1e8))
    for stride, (height, width), (nearest, farthest) in zip(STRIDES, SIZES, ranges, strict=True):
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.5) * stride, (row + 0.5) * stride
                smallest, owner = float('inf'), -1
                for number, (x0, y0, x1, y1) in enumerate(image.bboxes.tolist()):
                    sides = (x - x0, y - y0, x1 - x, y1 - y)
                    area = (x1 - x0) * (y1 - y0)
                    inside = min(sides) > 0 and nearest <= max(sides) <= farthest
                    if inside and area < smallest:
                        smallest, owner = area, number
                objects.append(owner)
    return objects


def scaled_by_hand(kind, instances, scores, scale):
    owners = [
        None if owner < 0 else (image, owner if scale == 'object' else None)
        for image, owners in enumerate(objects_of(kind, instances))
        for owner in owners
    ]
    best = {}
    for owner, score in zip(owners, scores.tolist(), strict=True):
        best[owner] = max(best.get(owner, 0), score)
    return [
        0 if owner is None else score / best[owner]
        for owner, score in zip(owners, scores.tolist(), strict=True)
    ]


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize('batched', [True, False])
@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_the_best_of_each_gets_one(kind, scale, batched):
    _, instances = batch()
    for quality in ('iou', 'giou'):
        plain = scores_of(kind, instances, quality=quality)
        got = scores_of(
            kind, instances, quality=quality, quality_scale=scale, batched_targets=batched
        )
        expected = torch.tensor(scaled_by_hand(kind, instances, plain, scale))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
        assert got.max() == 1
        assert (got == 1).sum() == len(instances) if scale == 'image' else (got == 1).sum() > 3
        assert (got > plain).sum() > 10


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_equal_image_by_image(kind, scale):
    """On images without objects, and with identical and nearly identical ones."""
    for seed in range(12):
        instances = random_batch(seed).objects
        for image in instances:
            image.bboxes[:, 2:] += 1  # an empty box has infinite deltas
        at_once, by_image = (
            scores_of(kind, instances, quality_scale=scale, batched_targets=batched)
            for batched in (True, False)
        )
        torch.testing.assert_close(at_once, by_image, rtol=2e-5, atol=0)
        assert at_once.max() <= 1


@pytest.mark.parametrize('batched', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_identical_objects_stay_two(kind, batched):
    """Of two annotations of one box and label, each has a best prediction of its own."""
    box = torch.tensor([[20.0, 20.0, 60.0, 60.0]] * 2)
    image = InstanceData(bboxes=box, labels=torch.tensor([1, 1]))
    scores = scores_of(kind, [image], quality_scale='object', batched_targets=batched)
    (owners,) = objects_of(kind, [image])
    both = {'RetinaHeadX': {-1, 0, 1}, 'RepPointsHeadX': {-1, 0, 1}, 'FoveaHeadX': {-1, 1}}
    assert {*owners} == both.get(kind, {-1, 0})
    for number in {*owners} - {-1}:
        of_object = [s for s, owner in zip(scores.tolist(), owners, strict=True) if owner == number]
        assert max(of_object) == 1


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_nothing_to_scale(kind, scale):
    _, instances = batch(boxes_per_image=0)
    assert not scores_of(kind, instances, quality_scale=scale).any()


@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_the_score_sum_is_that_of_the_scaled_scores(kind, scale):
    _, instances = batch()
    settings = dict(quality_scale=scale, normalizer='score_sum', loss_cls=VARIFOCAL)
    head = build(kind, **settings)
    head.loss_cls = Recorder(head.loss_cls)
    head.loss_by_feat(*head([torch.randn(2, 8, *size) for size in SIZES]), instances, METAS)
    ((_, (_, scores), _, avg_factor),) = head.loss_cls.calls
    assert float(avg_factor) == pytest.approx(float(scores.sum()), rel=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_bad_values(kind):
    with pytest.raises(ValueError, match=r"`quality_scale`.*'image'.*'object'.*'batch'"):
        build(kind, loss_cls=VARIFOCAL, quality_scale='batch')
    for scale in ('image', 'object'):
        with pytest.raises(ValueError, match=f"`quality_scale`.*quality='none'.*'{scale}'"):
            build(kind, loss_cls=VARIFOCAL, quality='none', quality_scale=scale)
