"""Losses that a head refuses when it is built, and predictions that have diverged."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.small_heads import FOCAL, HEADS, KINDS, METAS, VARIFOCAL, batch, build, losses_of
from mmfocalx.models.targets import Positives


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def loss(name, **settings):
    return dict(type=name, use_sigmoid=True, **settings)


@pytest.mark.parametrize('quality', ['iou', 'none'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (loss('FocalLossX', activated=True), ('activated=False', "'activated': True")),
        (loss('VarifocalLossX', activated=True), ('activated=False',)),
        (loss('SlideLossX', activated=True), ('activated=False',)),
        (loss('FocalDiceLossX'), ('classification loss', 'masks', 'FocalDiceLossX')),
        (dict(type='FocalDiceLossX'), ('use_sigmoid',)),
        (loss('EqualizedFocalLossX', num_classes=5), ('3 channels', "'num_classes': 5")),
        (loss('EqualizedFocalLossX', num_classes=2), ('3 channels', "'num_classes': 2")),
        (
            loss('SlideLossX', loss=loss('EqualizedFocalLossX', num_classes=4)),
            ('3 channels', "'num_classes': 4"),
        ),
        (loss('FocalLossX', alpha=[0.2, 0.3]), ('3 channels', 'alpha', '0.3')),
        (loss('PolyFocalLossX', gamma=[1.0] * 4), ('3 channels', 'gamma')),
    ],
)
def test_a_loss_that_does_not_suit_the_head(kind, quality, config, words):
    with pytest.raises(ValueError, match='Expected argument `loss_cls`') as caught:
        build(kind, loss_cls=config, quality=quality)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize('rows', ['the positives', 'all rows'])
@pytest.mark.parametrize('where', ['everywhere', 'at one place'])
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('kind', KINDS)
def test_diverged_boxes_make_the_loss_non_finite_as_in_mmdet(monkeypatch, kind, value, where, rows):
    if rows == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))
    features, instances = batch()
    theirs = build(kind.removesuffix('X'), loss_cls=FOCAL)
    outs = [[level.detach() for level in levels] for levels in theirs(features)]
    if where == 'everywhere':
        outs[1] = [torch.full_like(level, value) for level in outs[1]]
    else:
        outs[1][0][0, :, 2, 3] = value
    expected = theirs.loss_by_feat(*outs, instances, METAS)
    for quality in ('iou', 'giou', 'none'):
        got = build(kind, loss_cls=VARIFOCAL, quality=quality).loss_by_feat(*outs, instances, METAS)
        for name, levels in expected.items():
            their_value = sum(levels) if isinstance(levels, list) else levels
            assert got[name].isfinite() == their_value.isfinite(), name


@pytest.mark.parametrize('quality', ['iou', 'none'])
@pytest.mark.parametrize('kind', ['FCOSHeadX', 'ATSSHeadX'])
def test_arguments_by_name(kind, quality):
    features, instances = batch()
    for centerness in (True, False):
        head = build(kind, loss_cls=VARIFOCAL, quality=quality, centerness=centerness)
        outs = head(features)
        names = ('cls_scores', 'bbox_preds', 'centernesses')[: len(outs)]
        expected = head.loss_by_feat(*outs, instances, METAS)
        got = head.loss_by_feat(
            **dict(zip(names, outs, strict=True)),
            batch_gt_instances=instances,
            batch_img_metas=METAS,
            batch_gt_instances_ignore=None,
        )
        assert got.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in got.items())


@pytest.mark.parametrize('kind', [*HEADS, *KINDS])
def test_aug_test_is_missing_in_mmdet_too(kind):
    features, _ = batch()
    head = build(kind, loss_cls=VARIFOCAL)
    with pytest.raises(AttributeError, match=r'get_results|aug_test_bboxes'):
        head.aug_test([features], [METAS])
    assert losses_of(head, *batch())
