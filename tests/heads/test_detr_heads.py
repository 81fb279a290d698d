"""The heads of the DETR family against mmdet's own, and their conduct."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

from mmdet.models.dense_heads import DINOHead

from helpers import matrix_feeds as feeds
from helpers.small_detr_heads import (
    FOCAL,
    OURS,
    ROWS,
    SEVERAL_BOXES,
    SEVERAL_LABELS,
    THEIRS,
    VARIFOCAL,
    Recorder,
    build,
    gradients,
    objects,
    run,
)
from mmfocalx.models.detr_heads import DETRHeadX, DINOHeadX

QUALITY_FOCAL = dict(type='QualityFocalLoss', use_sigmoid=True, loss_weight=1.5)
BATCHES = {
    'several objects': (SEVERAL_BOXES, SEVERAL_LABELS),
    'one image without objects': (((), SEVERAL_BOXES[1]), ((), SEVERAL_LABELS[1])),
    'no object': (((), ()), ((), ())),
    'more objects than queries': ((SEVERAL_BOXES[0] * 3, ()), (SEVERAL_LABELS[0] * 3, ())),
}
CLOSE = dict(rtol=2e-5, atol=1e-7)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def assert_equal(ours: Any, theirs: Any, batch: str) -> None:
    with objects(*BATCHES[batch]):
        got, expected = run(ours), run(theirs)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value.squeeze(), **CLOSE)
    both = (gradients(head, sum(of.values())) for head, of in ((ours, got), (theirs, expected)))
    pairs = [pair for pair in zip(*both, strict=True) if pair != (None, None)]
    assert len(pairs) > 5
    for got_grad, expected_grad in pairs:
        torch.testing.assert_close(got_grad, expected_grad, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('batch', BATCHES)
@pytest.mark.parametrize('kind', THEIRS)
def test_no_quality_equals_mmdet(kind, batch):
    if (kind, batch) == ('DDQDETRHead', 'more objects than queries'):
        pytest.skip("the auxiliary loss of mmdet's dense queries fails on it")
    assert_equal(build(f'{kind}X', quality='none'), build(kind), batch)


@pytest.mark.parametrize('settings', [{}, {'sync_cls_avg_factor': True}])
@pytest.mark.parametrize('weights', [{}, dict(class_weight=2.0), dict(bg_cls_weight=0.1)])
def test_softmax_with_a_weight_of_the_background_equals_mmdet(weights, settings):
    if weights:
        weights = dict(class_weight=1.0, **weights) if 'bg_cls_weight' in weights else weights
    loss = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.5, **weights)
    ours, theirs = (
        build(kind, loss_cls=loss, **settings, **extra)
        for kind, extra in (('DETRHeadX', dict(quality='none')), ('DETRHead', {}))
    )
    assert_equal(ours, theirs, 'several objects')


@pytest.mark.parametrize('batch', ['several objects', 'one image without objects'])
@pytest.mark.parametrize('loss', ['QualityFocalLoss', 'QualityFocalLossX'])
@pytest.mark.parametrize('kind', [kind for kind in THEIRS if kind != 'DDQDETRHead'])
def test_quality_focal_loss_equals_mmdets_own_branch(kind, loss, batch):
    ours = build(f'{kind}X', loss_cls=dict(QUALITY_FOCAL, type=loss))
    assert_equal(ours, build(kind, loss_cls=QUALITY_FOCAL), batch)


def test_the_distinct_queries_of_mmdet_hand_over_labels_only():
    """So the comparison above leaves DDQ-DETR out."""
    with pytest.raises(AssertionError):
        run(build('DDQDETRHead', loss_cls=QUALITY_FOCAL))
    assert all(
        value.isfinite() for value in run(build('DDQDETRHeadX', loss_cls=VARIFOCAL)).values()
    )


@pytest.mark.parametrize('kind', ['DINOHeadX', 'DDQDETRHeadX'])
def test_every_call_hands_over_a_quality(kind):
    head = build(kind, loss_cls=VARIFOCAL)
    head.loss_cls = Recorder(head.loss_cls)
    run(head)
    assert len(head.loss_cls.calls) == 2 * feeds.LAYERS + 1
    for _, (labels, scores), _, divisor in head.loss_cls.calls:
        assert ((scores > 0) == (labels < feeds.CLASSES)).all() and (scores < 1).all()
        assert float(divisor) == (labels < feeds.CLASSES).sum() > 0


@pytest.mark.parametrize('kind', OURS)
def test_quality_carries_no_gradient_to_the_boxes(kind):
    head = build(kind, loss_cls=VARIFOCAL)
    losses = run(head)
    own = sum(value for name, value in losses.items() if 'loss_cls' in name and 'aux' not in name)
    reached = {
        name
        for (name, _), grad in zip(head.named_parameters(), gradients(head, own), strict=True)
        if grad is not None and grad.any()
    }
    assert reached and all('cls' in name for name in reached)


@pytest.mark.parametrize('loss', [VARIFOCAL, FOCAL])
@pytest.mark.parametrize('kind', OURS)
def test_the_box_losses_take_the_value_of_the_classification_loss(kind, loss):
    settings = dict(loss_cls=loss, quality='none' if loss is FOCAL else 'iou')
    plain, got = (run(build(kind, **settings, box_balance=b)) for b in ('none', 'self'))
    calls = [name.replace('loss_cls', '{}') for name in plain if 'loss_cls' in name]
    calls = [name for name in calls if 'aux' not in name]
    assert len(calls) >= feeds.LAYERS
    for call in calls:
        cls, boxes, overlaps = (call.format(name) for name in ('loss_cls', 'loss_bbox', 'loss_iou'))
        assert torch.equal(got[cls], plain[cls])
        total = (got[boxes] + got[overlaps]).item()
        assert total == pytest.approx(plain[cls].item(), rel=1e-5)
        ratio = (plain[boxes] / plain[overlaps]).item()
        assert (got[boxes] / got[overlaps]).item() == pytest.approx(ratio, rel=1e-5)
    for name in plain.keys() - {c.format(p) for c in calls for p in ('loss_bbox', 'loss_iou')}:
        assert torch.equal(got[name], plain[name])


@pytest.mark.parametrize('kind', OURS)
def test_images_without_boxes(kind):
    head = build(kind, loss_cls=VARIFOCAL, quality_scale='image', box_balance='self')
    with objects(((), ()), ((), ())):
        losses = run(head)
    assert all(value.isfinite() for value in losses.values())
    assert all(not losses[name] for name in losses if 'bbox' in name or 'iou' in name)
    for grad in gradients(head, sum(losses.values())):
        assert grad is None or grad.isfinite().all()


@pytest.mark.parametrize('place', [(0, 0), (1, -1)], ids=['a positive', 'a negative'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_diverged_denoising_boxes_stay_visible(value, place):
    shape = (feeds.LAYERS, 2, 8)
    with objects(*BATCHES['several objects']):
        samples, meta = feeds.samples(), feeds.denoising()
        scores = feeds.random(*shape[:2], meta['num_denoising_queries'], feeds.CLASSES)
        boxes = feeds.random(*shape[:2], meta['num_denoising_queries'], 4).sigmoid()
        boxes[:, place[0], place[1]] = value
        batch = [s.gt_instances for s in samples], [s.metainfo for s in samples]
        losses = [
            head.loss_dn(scores, boxes, *batch, meta)
            for head in (build('DINOHeadX', loss_cls=VARIFOCAL), build('DINOHead'))
        ]
    for of_boxes in (losses[0][1], losses[1][1]):
        assert not of_boxes[0].isfinite()


@pytest.mark.parametrize('loss', [VARIFOCAL, QUALITY_FOCAL])
def test_a_rank_without_boxes_calls_our_loss_as_often(loss):
    head = build('DINOHeadX', loss_cls=loss)
    calls = []
    head.loss_cls.register_forward_hook(lambda *args: calls.append(args))
    with objects(((), ()), ((), ())):
        run(head)
    assert len(calls) == (2 * feeds.LAYERS + 1 if loss is VARIFOCAL else feeds.LAYERS + 1)


@pytest.mark.parametrize('kind', OURS)
@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(loss_cls=None), ('loss_cls', 'use_sigmoid')),
        (dict(loss_cls=dict(type='VarifocalLossX')), ('loss_cls', 'use_sigmoid')),
        (dict(loss_cls=FOCAL), ('loss_cls', "quality='iou'", 'FocalLoss')),
        (dict(loss_cls=dict(VARIFOCAL, activated=True)), ('loss_cls', 'activated=False')),
        (dict(loss_cls=VARIFOCAL, quality='ciou'), ('quality', 'giou', 'ciou')),
        (dict(loss_cls=VARIFOCAL, quality_scale='set'), ('quality_scale', 'object', 'set')),
        (dict(loss_cls=VARIFOCAL, box_balance='auto'), ('box_balance', 'self', 'auto')),
        (
            dict(loss_cls=VARIFOCAL, quality='none', quality_scale='image'),
            ('quality_scale', "quality='none'"),
        ),
        (dict(loss_cls=dict(VARIFOCAL, alpha=[0.5, 0.5])), ('3 channels', 'alpha')),
    ],
)
def test_errors_name_the_argument(kind, settings, words):
    with pytest.raises(ValueError, match='Expected argument') as caught:
        build(kind, **settings)
    for word in words:
        assert word in str(caught.value)


def test_targets_of_a_subclass_that_would_not_be_used_are_refused():
    class OtherTargets(DETRHeadX):
        def _get_targets_single(self, *args):
            raise NotImplementedError

    class OtherDenoising(DINOHeadX):
        def get_dn_targets(self, *args):
            return DINOHead.get_dn_targets(self, *args)

    for kind, name in ((OtherTargets, '_get_targets_single'), (OtherDenoising, 'get_dn_targets')):
        config = ROWS['DINOHead' if kind is OtherDenoising else 'DETRHead'].config
        with pytest.raises(TypeError, match=f'{kind.__name__}.{name}.*not called'):
            kind(**config, loss_cls=VARIFOCAL)


def test_a_subclass_matches_in_its_own_way():
    class FirstQueryFirst(DETRHeadX):
        def match(self, cls_scores, bbox_preds, objects, metas):
            return [torch.arange(len(scores)).clamp(max=1) for scores in cls_scores]

    head = FirstQueryFirst(**ROWS['DETRHead'].config, loss_cls=VARIFOCAL)
    head.loss_cls = Recorder(head.loss_cls)
    run_losses = ROWS['DETRHead'].feed(head, ())
    assert all(value.isfinite() for value in run_losses.values())
    for _, (labels, _), _, _ in head.loss_cls.calls:
        assert (labels < feeds.CLASSES).sum() == 2 * (feeds.QUERIES - 1)
