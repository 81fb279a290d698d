"""What is varied: the syntax of `--search`, keys of configs, and the options of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from mmengine.config import Config

from mmfocalx import config_path
from mmfocalx.compare.resolved_config import config_hash
from mmfocalx.compare.runs import Run
from mmfocalx.sweep.best import difference, write_inheriting_config
from mmfocalx.sweep.parameters import parse
from mmfocalx.sweep.space import Space, default_search

FOCAL = Path(config_path('retinanet/retinanet_r18-w16_fpn_focal_12e_digit-scenes.py'))
FCOS = Path(config_path('fcos/fcos_r18-w16_fpn_varifocal_12e_digit-scenes.py'))


def a_space(*search: str, config: Path = FOCAL) -> Space:
    content = Config.fromfile(str(config), import_custom_modules=False)
    return Space(content, tuple(map(parse, search)))


def drawn(text: str, number: int = 200) -> list[Any]:
    """Settings of many trials."""
    parameter = parse(text)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [parameter.setting(parameter.suggest(study.ask())) for _ in range(number)]


@pytest.mark.parametrize(
    ('text', 'allowed'),
    [
        ('a=int:1:3', {1, 2, 3}),
        ('a=int:1:6:2', {1, 3, 5}),
        ('a=float:0:1:0.25', {0, 0.25, 0.5, 0.75, 1}),
        ('a=choice:x,2,3.5,true,None,none', {'x', 2, 3.5, True, None, 'none'}),
    ],
)
def test_values_that_can_be_counted(text: str, allowed: set) -> None:
    assert set(drawn(text)) == allowed
    parameter = parse(text)
    grid = [parameter.setting(value) for value in parameter.grid()]
    assert len(grid) == len(allowed)
    assert set(grid) == allowed
    assert all(parameter.stored(setting) is not None for setting in allowed)
    assert parse(f'a={parameter}') == parameter


def test_lists_are_choices() -> None:
    (first, second) = parse('a=choice:[0.9, 0.999],(0.8, 0.99)').grid()
    parameter = parse('a=choice:[0.9, 0.999],(0.8, 0.99)')
    assert parameter.setting(first) == [0.9, 0.999]
    assert parameter.setting(second) == (0.8, 0.99)
    assert parameter.stored((0.9, 0.999)) == first


def test_a_logarithmic_scale() -> None:
    values = drawn('lr=log:1e-4:1e-2')
    assert all(1e-4 <= value <= 1e-2 for value in values)
    below = sum(value < 1e-3 for value in values) / len(values)
    assert 0.4 < below < 0.6  # the middle of the scale, where a linear one has 9 %


@pytest.mark.parametrize(
    ('text', 'value', 'edge'),
    [
        ('a=float:0:4', 3.81, 'high'),
        ('a=float:0:4', 3.79, ''),
        ('a=float:0:4', 0.0, 'low'),
        ('a=log:1e-4:1e-2', 1.1e-4, 'low'),
        ('a=log:1e-4:1e-2', 6e-4, ''),  # a twentieth of the numbers, but a third of the scale
        ('a=log:1e-4:1e-2', 9e-3, 'high'),
        ('a=int:1:3', 3, 'high'),
        ('a=int:1:10:4', 9, 'high'),
        ('a=float:0:0.5:0.2', 0.4, 'high'),
        ('a=float:0:0.5:0.2', 0.2, ''),
        ('a=int:1:3', 2, ''),
        ('a=choice:x,y', 'x', ''),
        ('a=float:0:4', None, ''),
    ],
)
def test_a_value_at_the_edge_of_its_range(text: str, value: object, edge: str) -> None:
    assert parse(text).edge(value) == edge


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('gamma', 'KEY=float:LOW:HIGH'),
        ('gamma=0.5:4', 'KEY=float:LOW:HIGH'),
        ('gamma=flat:0.5:4', 'KEY=float:LOW:HIGH'),
        ('gamma=float:0.5', 'KEY=float:LOW:HIGH'),
        ('gamma=float:0.5:x', "could not convert string to float: 'x'"),
        ('gamma=int:0.5:4', 'Invalid literal'),
        ('gamma=float:4:0.5', 'LOW below HIGH'),
        ('gamma=float:1:1', 'LOW below HIGH'),
        ('gamma=float:0:nan', 'finite'),
        ('gamma=float:0:inf', 'finite'),
        ('lr=log:0:1', 'LOW above 0'),
        ('lr=log:1e-4:1e-2:3', 'KEY=float:LOW:HIGH'),
        ('gamma=float:0:1:2', 'STEP above 0'),
        ('gamma=float:0:1:0', 'STEP above 0'),
        ('loss=choice:FocalLossX', 'two different values'),
        ('a=choice:1,1.0', 'two different values'),
    ],
)
def test_bad_syntax_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r'^Expected argument `--search` to be ') as error:
        parse(text)
    assert message.lower() in str(error.value).lower()
    assert text in str(error.value)


@pytest.mark.parametrize(
    ('name', 'key', 'value'),
    [
        ('gamma', 'model.bbox_head.loss_cls.gamma', 2.0),
        ('alpha', 'model.bbox_head.loss_cls.alpha', 0.25),
        ('loss_weight', 'model.bbox_head.loss_cls.loss_weight', 1.0),
        ('box_weight', 'model.bbox_head.loss_bbox.loss_weight', 8.0),
        ('quality', 'model.bbox_head.quality', 'none'),
        ('lr', 'optim_wrapper.optimizer.lr', 0.002),
        ('weight_decay', 'optim_wrapper.optimizer.weight_decay', 0.05),
        ('param_scheduler.1.eta_min', 'param_scheduler.1.eta_min', 1e-5),
        ('optim_wrapper.accumulative_counts', 'optim_wrapper.accumulative_counts', 1),
        ('model.bbox_head.stacked_convs', 'model.bbox_head.stacked_convs', 2),
    ],
)
def test_keys_and_what_the_config_says(name: str, key: str, value: object) -> None:
    space = a_space(f'{name}=choice:{value},other')
    assert space.keys.full(name) == key
    assert space.default() == {name: str(value)}
    assert [*space.options({name: 'other'}).items()] == [(key, 'other')]


@pytest.mark.parametrize(
    ('key', 'nearest'),
    [
        ('gama', 'gamma'),
        ('model.bbox_head.loss_cls.gama', 'model.bbox_head.loss_cls.gamma'),
        ('model.bbox_heads.loss_cls.type', 'model.bbox_head.loss_cls.type'),
        ('optim_wrapper.optimizer.betaz', 'optim_wrapper.optimizer.betas'),
        ('param_scheduler.2.eta_min', 'param_scheduler.1.eta_min'),
        ('train_cfg.val_intervall', 'train_cfg.val_interval'),
    ],
)
def test_a_key_that_the_config_lacks_is_named_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=r'to be a key of .*focal_12e') as error:
        a_space(f'{key}=int:1:2')
    assert f'but got {key!r}. Did you mean {nearest!r}?' in str(error.value)


def test_a_key_given_twice_in_two_ways() -> None:
    with pytest.raises(ValueError, match='gamma twice'):
        a_space('gamma=float:1:2', 'model.bbox_head.loss_cls.gamma=float:1:3')


def test_a_loss_brings_its_own_defaults_and_quality() -> None:
    space = a_space(
        'gamma=float:1:2:0.5', 'loss=choice:FocalLossX,VarifocalLossX,QualityFocalLossX'
    )
    head = Config(space.config.to_dict())
    head.merge_from_dict(space.options({'loss': 'VarifocalLossX', 'gamma': 1.5}))
    assert head.model.bbox_head.loss_cls == dict(type='VarifocalLossX', use_sigmoid=True, gamma=1.5)
    assert head.model.bbox_head.quality == 'iou'
    assert space.options({'loss': 'FocalLossX', 'gamma': 1.5}) == {
        'model.bbox_head.loss_cls.gamma': 1.5
    }
    # QualityFocalLossX has no gamma, so that it is one point of the grid, not three.
    assert [point['loss'] for point in space.grid()].count('QualityFocalLossX') == 1
    assert len(space.grid()) == 7
    assert space.default() == {'loss': 'FocalLossX', 'gamma': 2.0}


def test_a_loss_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r'a choice of registered losses.*FocaLossX'):
        a_space('loss=choice:FocalLossX,FocaLossX')


def test_a_config_outside_the_search_has_no_default() -> None:
    assert a_space('gamma=float:3:4').default() is None
    assert a_space('gamma=float:0:4:0.75').default() is None
    assert a_space('gamma=float:0:4:0.5').default() == {'gamma': 2.0}


def test_a_grid_of_values_without_end() -> None:
    with pytest.raises(ValueError, match=r'for a grid, but got .gamma=float:1:2.*choice:1,2'):
        a_space('gamma=float:1:2').grid()


def test_what_is_searched_where_nothing_is_named() -> None:
    focal = default_search(a_space('gamma=float:1:2').config)
    assert focal == ['gamma=float:0.5:4', 'alpha=float:0.1:0.9', 'lr=log:0.0002:0.02']
    a_space(*focal)


@pytest.mark.parametrize('base', [FOCAL, FCOS], ids=['retinanet', 'fcos'])
def test_the_best_config_says_what_the_trial_said(tmp_path: Path, base: Path) -> None:
    search = ['gamma=float:1:2', 'loss=choice:VarifocalLossX,SlideLossX', 'box_weight=float:1:9',
              'param_scheduler.1.eta_min=choice:1e-5,1e-4']  # fmt: skip
    space = a_space(*search, config=base)
    values = {'loss': 'SlideLossX', 'box_weight': 2.5, 'param_scheduler.1.eta_min': '1e-4'}
    run = Run('best', 3, base, tmp_path, space.options(values))
    path = tmp_path / 'deeper' / 'best.py'
    write_inheriting_config(run.settings, base, path, 'two\nlines')
    read = Config.fromfile(str(path), import_custom_modules=False)
    assert config_hash(read) == config_hash(run.settings)
    assert read.model.bbox_head.loss_cls.type == 'SlideLossX'
    assert path.read_text().startswith('# two\n# lines\n_base_ = ')
    assert len(path.read_text().splitlines()) < 30  # it inherits
    assert [file.name for file in path.parent.iterdir()] == ['best.py']


def test_a_config_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    settings = Config.fromfile(str(FOCAL), import_custom_modules=False)
    settings.model.odd = {1, 2}.__iter__()
    with pytest.raises(Exception):  # noqa: B017, PT011
        write_inheriting_config(settings, FOCAL, tmp_path / 'best.py', '')
    assert [*tmp_path.iterdir()] == []


def test_what_a_config_has_to_say() -> None:
    before = dict(a=1, b=dict(c=1, d=2), e=[1, 2], f=dict(type='x', y=1))
    after = dict(a=1, b=dict(c=1, d=3), e=[1, 3], f=dict(type='z'), g=True)
    expected = dict(b=dict(d=3), e=[1, 3], f=dict(_delete_=True, type='z'), g=True)
    assert difference(before, after) == expected
    assert difference(dict(a=1), dict(a=True)) == dict(a=True)


def test_options_of_a_run_are_not_used_up(tmp_path: Path) -> None:
    options = {'model.bbox_head.loss_cls': dict(_delete_=True, type='QualityFocalLossX')}
    first, second = (Run('a', seed, FOCAL, tmp_path, options).settings for seed in (0, 1))
    assert first.model.bbox_head == second.model.bbox_head
    assert second.model.bbox_head.loss_cls == dict(type='QualityFocalLossX')
