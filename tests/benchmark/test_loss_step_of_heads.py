"""The loss step of a head and the iteration of a detector."""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from benchmark import detector, devices, heads, isolated, query_heads, sections
from benchmark.cases import main_losses
from mmfocalx.losses.catalogue import classification_losses

SMALL = {'classes': 3, 'height': 64, 'width': 96, 'images': 2, 'objects': 3}


@pytest.fixture(autouse=True)
def _eager(monkeypatch: Any) -> Any:
    """Nothing here is about the compiler."""
    monkeypatch.setenv('MMFOCALX_FUSED', '0')
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('head', heads.HEADS)
def test_settings_that_are_the_same_function_agree(head: str) -> None:
    measured = heads.measure_heads(heads.HeadCase(head, **SMALL), rounds=2)
    compared = {name: step['compared'] for name, step in measured['steps'].items()}
    assert measured['missing'] == {}
    assert list(compared) == [setting.name for setting in heads.settings_of(head)]
    assert list(compared.values()).count('same function') == 3
    for step in measured['steps'].values():
        assert 0 < step['losses_forward_ms'] < step['loss_by_feat_ms']
        assert step['loss_by_feat_ms'] < 1e3 * max(step['samples'])


def test_the_head_of_queries_agrees_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(query_heads, 'QUERIES', 12)
    (case,) = query_heads.plan_query_heads('cpu', (64, 96), (80, 3), (1,), objects=3)
    measured = isolated.JOBS['heads'](json.loads(json.dumps(case.record)), rounds=2)
    assert measured['missing'] == {}
    compared = [step['compared'] for step in measured['steps'].values()]
    assert compared.count('same function') == 3
    assert len(compared) == len([*heads.settings_of('DINOHead')])


def test_every_loss_of_mmdet_that_knows_quality_is_among_the_settings() -> None:
    given = {setting.loss for setting in heads.settings_of('RetinaHead')}
    for name in main_losses():
        assert name in given
        assert classification_losses()[name].quality_aware or name.removesuffix('X') in given


def test_the_watches_tell_the_losses_from_the_rest(monkeypatch: Any) -> None:
    """The box loss takes 0.1 s longer on each of five levels, the targets take 0.2 s longer."""

    def slowed(call: Any, seconds: float) -> Any:
        return lambda *args, **kwargs: (time.sleep(seconds), call(*args, **kwargs))[1]

    box_loss = importlib.import_module('mmdet.models.losses').L1Loss
    monkeypatch.setattr(box_loss, 'forward', slowed(box_loss.forward, 0.1))
    case = heads.HeadCase('RetinaHead', **SMALL)
    step = heads.HeadStep(case, next(heads.settings_of('RetinaHead')), devices.Cpu())
    step.head.get_targets = slowed(step.head.get_targets, 0.2)
    for _ in range(2):
        step.run()
    whole, losses = (watch.median_ms(1) for watch in step.watches.values())
    assert 500 <= losses < 700
    assert 200 <= whole - losses < 400


def test_without_mmdet_every_setting_is_named_as_missing(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet.models', None)
    case = heads.HeadCase('FCOSHead', **SMALL)
    measured = heads.measure_heads(case, rounds=1)
    assert measured['steps'] == {}
    assert set(measured['missing']) == {setting.name for setting in heads.settings_of('FCOSHead')}
    assert '- FCOSHead, FocalLoss: not installed' in sections.not_compared([measured])[1]


def test_the_numbers_of_threads_and_classes_of_the_plan() -> None:
    planned = heads.plan_heads('cpu')
    assert {(one.head, one.classes, one.threads) for one in planned} == {
        (head, classes, threads)
        for head in ('RetinaHead', 'FCOSHead', 'ATSSHead', 'FoveaHead', 'RepPointsHead')
        for classes in (3, 80)
        for threads in (1, 2)
    }
    assert {(one.images, one.height, one.width) for one in planned} == {(8, 320, 320)}
    on_gpu = heads.plan_heads('cuda')
    assert {(one.images, one.height, one.width) for one in on_gpu} == {(8, 800, 1344)}
    assert len({one.name for one in planned}) == len(planned)


def test_an_iteration_trains_every_setting(monkeypatch: Any) -> None:
    """A backbone of 18 layers is enough to see it."""
    monkeypatch.setitem(detector.BACKBONE, 'depth', 18)
    monkeypatch.setitem(detector.NECK, 'in_channels', [64, 128, 256, 512])
    case = detector.DetectorCase('RetinaHead', **SMALL, autocast=True)
    assert isolated.JOBS['iteration'](json.loads(json.dumps(case.record)), rounds=1).keys() >= {
        'autocast', 'steps'
    }  # fmt: skip
    one = detector.Iteration(case, next(heads.settings_of('RetinaHead')), devices.Cpu())
    weight = one.detector.bbox_head.retina_cls.weight
    before = weight.detach().clone()
    assert torch.isfinite(one.run())
    assert not torch.equal(weight, before)
