"""Which way the targets are computed, and what the log says of it."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

from mmdet.models.task_modules import ATSSAssigner, MaxIoUAssigner

from helpers.small_heads import (
    ATSS,
    FOCAL,
    KINDS,
    REPPOINTS,
    RETINA,
    VARIFOCAL,
    batch,
    build,
    losses_of,
)
from mmfocalx.models import FCOSHeadX, FoveaHeadX, RetinaHeadX

AT_ONCE = 'computed of all images at once'
IMAGE_BY_IMAGE = 'computed image by image, as in mmdet, because of '


@TASK_UTILS.register_module()
class AssignerOfAnotherProject(MaxIoUAssigner):
    pass


@TASK_UTILS.register_module()
class ATSSAssignerOfAnotherProject(ATSSAssigner):
    pass


@MMDET_MODELS.register_module()
class HeadOfAnotherProject(RetinaHeadX):
    def _get_targets_single(self, *args, **kwargs):
        return super()._get_targets_single(*args, **kwargs)


@MMDET_MODELS.register_module()
class PointHeadOfAnotherProject(FCOSHeadX):
    def get_targets(self, *args, **kwargs):
        return super().get_targets(*args, **kwargs)


@MMDET_MODELS.register_module()
class FoveaHeadOfAnotherProject(FoveaHeadX):
    def _get_targets_single(self, *args, **kwargs):
        return super()._get_targets_single(*args, **kwargs)


@pytest.fixture(autouse=True)
def lines():
    """What the heads tell the log."""
    init_default_scope('mmdet')
    logger = MMLogger.get_current_instance()
    kept = []

    class Handler(logging.Handler):
        def emit(self, record):
            if 'targets are computed' in record.getMessage():
                kept.append(record.getMessage())

    handler = Handler()
    logger.addHandler(handler)
    logger.setLevel('INFO')
    yield kept
    logger.removeHandler(handler)
    logger.setLevel('ERROR')


def train_cfg(**settings):
    config = copy.deepcopy(RETINA['train_cfg'])
    for name, value in settings.items():
        config[name].update(value)
    return dict(train_cfg=config)


def atss_cfg(**settings):
    config = copy.deepcopy(ATSS['train_cfg'])
    config['assigner'].update(settings)
    return dict(train_cfg=config)


def reppoints_cfg(stage, **settings):
    config = copy.deepcopy(REPPOINTS['train_cfg'])
    config[stage]['assigner'].update(settings)
    return dict(train_cfg=config)


def first_stage(assigner):
    stage = dict(assigner=assigner, pos_weight=-1)
    return dict(train_cfg=ConfigDict(REPPOINTS['train_cfg'], init=stage))


SETTINGS = {
    'RetinaHeadX': ({}, AT_ONCE),
    'FCOSHeadX': ({}, AT_ONCE),
    'ATSSHeadX': ({}, AT_ONCE),
    'RetinaHeadX off': (dict(batched_targets=False), IMAGE_BY_IMAGE + 'batched_targets=False'),
    'FCOSHeadX off': (dict(batched_targets=False), IMAGE_BY_IMAGE + 'batched_targets=False'),
    'ATSSHeadX off': (dict(batched_targets=False), IMAGE_BY_IMAGE + 'batched_targets=False'),
    'ATSSHeadX assigner': (atss_cfg(type='ATSSAssignerOfAnotherProject'), 'ATSSAssignerOf'),
    'ATSSHeadX coder': (
        dict(bbox_coder=dict(type='DeltaXYWHBBoxCoderForGLIP')),
        'bbox_coder=DeltaXYWHBBoxCoderForGLIP',
    ),
    'RetinaHeadX assigner': (
        train_cfg(assigner=dict(type='AssignerOfAnotherProject')),
        'assigner=AssignerOfAnotherProject',
    ),
    'RetinaHeadX sampler': (
        train_cfg(
            sampler=dict(type='RandomSampler', num=64, pos_fraction=0.5, add_gt_as_proposals=False)
        ),
        'sampler=RandomSampler',
    ),
    'RetinaHeadX coder': (
        dict(bbox_coder=dict(type='DeltaXYWHBBoxCoderForGLIP')),
        'bbox_coder=DeltaXYWHBBoxCoderForGLIP',
    ),
    'RetinaHeadX half overlaps': (
        train_cfg(assigner=dict(iou_calculator=dict(type='BboxOverlaps2D', dtype='fp16'))),
        'iou_calculator=',
    ),
    'RetinaHeadX permuted boxes': (
        train_cfg(assigner=dict(perm_repeat_gt_cfg=dict(iou_thr=0.9, perm_range=0.01))),
        'perm_repeat_gt_cfg',
    ),
    'FoveaHeadX': ({}, AT_ONCE),
    'FoveaHeadX off': (dict(batched_targets=False), IMAGE_BY_IMAGE + 'batched_targets=False'),
    'FoveaHeadOfAnotherProject': ({}, 'FoveaHeadOfAnotherProject._get_targets_single'),
    'RepPointsHeadX': ({}, AT_ONCE),
    'RepPointsHeadX boxes first': (first_stage(RETINA['train_cfg']['assigner']), AT_ONCE),
    'RepPointsHeadX off': (dict(batched_targets=False), IMAGE_BY_IMAGE + 'batched_targets=False'),
    'RepPointsHeadX first assigner': (
        first_stage(dict(RETINA['train_cfg']['assigner'], type='AssignerOfAnotherProject')),
        'init_assigner=AssignerOfAnotherProject',
    ),
    'RepPointsHeadX second assigner': (
        reppoints_cfg('refine', type='AssignerOfAnotherProject'),
        'refine_assigner=AssignerOfAnotherProject',
    ),
    'RepPointsHeadX half overlaps': (
        reppoints_cfg('refine', iou_calculator=dict(type='BboxOverlaps2D', dtype='fp16')),
        'iou_calculator=',
    ),
    'RepPointsHeadX sampler': (
        dict(
            train_cfg=ConfigDict(
                REPPOINTS['train_cfg'],
                sampler=dict(
                    type='RandomSampler', num=64, pos_fraction=0.5, add_gt_as_proposals=False
                ),
            )
        ),
        'sampler=RandomSampler',
    ),
    'HeadOfAnotherProject': ({}, 'HeadOfAnotherProject._get_targets_single'),
    'PointHeadOfAnotherProject': ({}, 'PointHeadOfAnotherProject.get_targets'),
}


def base_of(name):
    for kind in ('ATSS', 'Fovea', 'RepPoints'):
        if name.startswith(kind):
            return f'{kind}HeadX'
    return 'FCOSHeadX' if name.startswith(('FCOS', 'Point')) else 'RetinaHeadX'


def built(name, **settings):
    kind = name.split()[0]
    base = base_of(kind)
    if base == kind:
        return build(kind, **{**SETTINGS[name][0], **settings})
    return build(base, type=kind, **{**SETTINGS[name][0], **settings})


@pytest.mark.parametrize('name', SETTINGS)
def test_the_log_says_once_which_way_and_why(lines, name):
    features, instances = batch()
    head = built(name, loss_cls=VARIFOCAL)
    for _ in range(2):
        losses_of(head, features, instances)
    (line,) = lines
    assert SETTINGS[name][1] in line
    assert line.startswith(type(head).__name__)


DRAWN = ('RetinaHeadX sampler', 'RepPointsHeadX sampler', 'RetinaHeadX permuted boxes')


@pytest.mark.parametrize('normalizer', ['num_pos', 'score_sum'])
@pytest.mark.parametrize('name', [name for name in SETTINGS if name not in DRAWN])
def test_losses_are_those_of_mmdet_either_way(name, normalizer):
    features, instances = batch()
    settings = {k: v for k, v in SETTINGS[name][0].items() if k != 'batched_targets'}
    kind = base_of(name).removesuffix('X')
    expected = losses_of(build(kind, loss_cls=FOCAL, **settings), features, instances)
    if (kind, normalizer) == ('FoveaHead', 'score_sum'):  # mmdet adds the number of images
        expected.pop('loss_cls')
    ours = built(name, loss_cls=FOCAL, quality='none', normalizer=normalizer)
    got = losses_of(ours, features, instances)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=2e-5, atol=1e-7)


def test_a_quality_is_the_same_either_way():
    features, instances = batch()
    for kind in KINDS:
        for decoded in [{}, dict(reg_decoded_bbox=True)] if kind == 'RetinaHeadX' else [{}]:
            at_once, by_image = (
                losses_of(
                    build(kind, loss_cls=VARIFOCAL, batched_targets=batched, **decoded),
                    features,
                    instances,
                )
                for batched in (True, False)
            )
            for name, value in at_once.items():
                torch.testing.assert_close(value, by_image[name], rtol=2e-5, atol=1e-7)


def test_batched_targets_must_be_a_bool():
    for kind in KINDS:
        with pytest.raises(TypeError, match='`batched_targets`'):
            build(kind, loss_cls=VARIFOCAL, batched_targets=1)


@pytest.mark.parametrize('kind', KINDS)
def test_copies_of_a_head_that_was_used(kind):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL)
    expected = losses_of(head, features, instances)
    assert set(head.state_dict()) == set(build(kind, loss_cls=VARIFOCAL).state_dict())
    for copied in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        for name, value in losses_of(copied, features, instances).items():
            assert torch.equal(value, expected[name])
