"""``box_balance='self'`` against the losses without it."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)

from helpers.small_heads import (
    FOCAL,
    HEADS,
    KINDS,
    METAS,
    VARIFOCAL,
    batch,
    box_loss,
    box_losses,
    build,
    gradients,
    losses_of,
)

GIOU = dict(type='GIoULoss')
RANK_SORT = dict(type='RankSortLossX', use_sigmoid=True)
SETTINGS = [
    ('RetinaHeadX', dict(loss_cls=VARIFOCAL)),
    ('RetinaHeadX', dict(loss_cls=RANK_SORT, reg_decoded_bbox=True, loss_bbox=GIOU)),
    ('RetinaHeadX', dict(loss_cls=FOCAL, quality='none')),
    ('RetinaHeadX', dict(loss_cls=FOCAL, quality='none', batched_targets=False)),
    ('FCOSHeadX', dict(loss_cls=VARIFOCAL)),
    ('FCOSHeadX', dict(loss_cls=RANK_SORT, centerness=False)),
    ('FCOSHeadX', dict(loss_cls=FOCAL, quality='none', batched_targets=False)),
    ('ATSSHeadX', dict(loss_cls=VARIFOCAL, quality_scale='object')),
    ('ATSSHeadX', dict(loss_cls=RANK_SORT, centerness=False)),
    ('ATSSHeadX', dict(loss_cls=FOCAL, quality='none', batched_targets=False)),
    ('FoveaHeadX', dict(loss_cls=VARIFOCAL)),
    ('FoveaHeadX', dict(loss_cls=FOCAL, quality='none', batched_targets=False)),
    ('RepPointsHeadX', dict(loss_cls=VARIFOCAL, quality_scale='image')),
    ('RepPointsHeadX', dict(loss_cls=RANK_SORT)),
    ('RepPointsHeadX', dict(loss_cls=FOCAL, quality='none', batched_targets=False)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


@pytest.mark.parametrize(('kind', 'settings'), SETTINGS)
def test_the_box_loss_takes_the_value_of_the_classification_loss(kind, settings):
    features, instances = batch()
    plain_head = build(kind, **settings)
    head = build(kind, **settings, box_balance='self')
    plain, got = (losses_of(each, features, instances) for each in (plain_head, head))
    factor = plain['loss_cls'].item() / box_loss(plain).item()
    assert abs(factor - 1) > 0.01
    assert box_loss(got).item() == pytest.approx(plain['loss_cls'].item(), rel=1e-5)
    of_boxes = {name for name in plain if 'bbox' in name or 'pts' in name}
    for name in plain.keys() - of_boxes:
        assert torch.equal(got[name], plain[name])
    for name, value in got.items():  # the factor has no gradient
        scale = factor if name in of_boxes else 1
        for ours, theirs in zip(
            gradients(head, value, retain_graph=True),
            gradients(plain_head, plain[name], retain_graph=True),
            strict=True,
        ):
            if theirs is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, scale * theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(('kind', 'settings'), SETTINGS)
def test_the_weight_of_the_box_loss_has_no_effect(kind, settings):
    features, instances = batch()
    configs = {**HEADS[kind.removesuffix('X')], **settings}

    def weighted(factor):
        boxes = {
            name: dict(configs[name], loss_weight=factor * configs[name].get('loss_weight', 1.0))
            for name in box_losses(kind)
        }
        return losses_of(build(kind, **settings | boxes, box_balance='self'), features, instances)

    one, eight = weighted(1.0), weighted(8.0)
    for name, value in one.items():
        torch.testing.assert_close(eight[name], value, rtol=1e-5, atol=0)


@pytest.mark.parametrize(('kind', 'settings'), SETTINGS)
def test_without_boxes_the_factor_is_one(kind, settings):
    features, instances = batch(boxes_per_image=0)
    head = build(kind, **settings, box_balance='self')
    losses = losses_of(head, features, instances)
    assert box_loss(losses) == 0
    assert all(value.isfinite() for value in losses.values())
    assert all(g is None or g.isfinite().all() for g in gradients(head, sum(losses.values())))


def test_two_box_losses_are_balanced_by_their_sum():
    head = build('RetinaHeadX', loss_cls=VARIFOCAL, box_balance='self')
    box, iou = (torch.tensor(value, requires_grad=True) for value in (2.0, 0.5))
    mask = torch.tensor(7.0)
    got = head.balanced(
        dict(loss_cls=[torch.tensor(4.0), torch.tensor(1.0)], loss_bbox=[box], loss_iou=iou,
             loss_mask=mask)
    )  # fmt: skip
    assert got['loss_bbox'][0] == 4.0
    assert got['loss_iou'] == 1.0
    assert got['loss_mask'] is mask
    (got['loss_bbox'][0] + got['loss_iou']).backward()
    assert box.grad == iou.grad == 2.0


@pytest.mark.parametrize(
    ('loss_cls', 'loss_bbox'),
    [(0.0, 3.0), (3.0, 0.0), (0.0, 0.0), (-1.0, 2.0), (1e30, 1e-30),
     (math.nan, 2.0), (2.0, math.nan), (math.inf, 2.0), (2.0, math.inf)],
)  # fmt: skip
def test_a_factor_that_would_hide_a_loss_is_one(loss_cls, loss_bbox):
    head = build('RetinaHeadX', loss_cls=VARIFOCAL, box_balance='self')
    given = dict(loss_cls=torch.tensor(loss_cls), loss_bbox=torch.tensor(loss_bbox))
    for name, value in head.balanced(given).items():
        torch.testing.assert_close(value, given[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize('kind', KINDS)
def test_diverged_boxes_stay_visible(kind):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL, box_balance='self')
    outs = [[level.detach() for level in levels] for levels in head(features)]
    outs[1] = [torch.full_like(level, math.nan) for level in outs[1]]
    assert not box_loss(head.loss_by_feat(*outs, instances, METAS)).isfinite()


@pytest.mark.parametrize('kind', KINDS)
def test_bad_values(kind):
    with pytest.raises(ValueError, match=r"`box_balance`.*'self'.*'auto'"):
        build(kind, loss_cls=VARIFOCAL, box_balance='auto')
