"""The fragments of configs/_base_/tricks resolve to what they say, together, and train."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

import mmfocalx
from helpers.tiny_runs import ROOT, run_quickly, write_training

LOSS = dict(type='FocalLossX', use_sigmoid=True)
TRICKS = Path(mmfocalx.config_path('_base_/tricks/warmup.py')).parent
BASES = [str(TRICKS / f'{name}.py') for name in ('warmup', 'clip_grad', 'focal_lr', 'bias_prior')]
GUARD = str(TRICKS / 'non_finite_guard.py')
BODY = f"""
param_scheduler = [_base_.warmup, dict(type='MultiStepLR', milestones=[2])]
optim_wrapper = dict(
    clip_grad=_base_.clip_grad,
    optimizer=dict(lr=_base_.focal_lr_factor * _base_.optim_wrapper.optimizer.lr),
)
model = dict(bbox_head=dict(init_cfg=_base_.bias_prior, loss_cls=dict(_delete_=True, **{LOSS})))
"""
WARMUP = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny training that inherits from all of them."""
    root = tmp_path_factory.mktemp('tricks')
    plain = write_training(root)
    path = root / 'tricks.py'
    path.write_text(f'_base_ = {[str(plain), *BASES, GUARD]}{BODY}')
    return path


def resolved(config: Any) -> dict[str, Any]:
    return {
        'scheduler': config.param_scheduler[0],
        'optimizer': config.optim_wrapper.optimizer,
        'clip_grad': config.optim_wrapper.clip_grad,
        'init_cfg': config.model.bbox_head.init_cfg,
    }


EXPECTED = {
    'scheduler': WARMUP,
    'optimizer': dict(type='AdamW', lr=pytest.approx(0.2 * 0.01)),
    'clip_grad': dict(max_norm=10.0),
    'init_cfg': dict(
        type='Normal',
        layer='Conv2d',
        std=0.01,
        override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.001),
    ),
}


def test_all_of_them_at_once(config: Path) -> None:
    assert resolved(Config.fromfile(config)) == EXPECTED


def options_in(name: str) -> list[str]:
    """What a fragment says to write after --cfg-options."""
    _, _, options = (TRICKS / f'{name}.py').read_text().partition('--cfg-options')
    return [word for word in shlex.split(re.sub('^#', '', options.split('\n\n')[0], flags=re.M))
            if re.match(r'[a-z_]+\.', word)]  # fmt: skip


def test_the_command_lines_that_they_name_do_the_same(config: Path) -> None:
    plain = Config.fromfile(config.with_name('config.py'))
    plain.param_scheduler = [dict(WARMUP, start_factor=0.5, end=3)]
    words = [word for path in BASES for word in options_in(Path(path).stem)]
    assert len(words) == 11
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = parser.parse_args(['--cfg-options', *words]).cfg_options
    assert options.pop('optim_wrapper.optimizer.lr') == 0.2 * 0.002  # of adamw_12e
    plain.merge_from_dict(options)
    got, expected = resolved(plain), dict(EXPECTED)
    del got['optimizer'], expected['optimizer']
    assert got == expected


@pytest.mark.parametrize('kind', ['retinanet', 'fcos'])
def test_the_prior_is_where_every_score_starts(kind: str) -> None:
    init_default_scope('mmdet')
    name = f'{kind}/{kind}_r18-w16_fpn_focal_12e_digit-scenes.py'
    head = Config.fromfile(mmfocalx.config_path(name)).model.bbox_head
    head.init_cfg = Config.fromfile(TRICKS / 'bias_prior.py').bias_prior
    layer = {'retinanet': 'retina_cls', 'fcos': 'conv_cls'}[kind]
    head.init_cfg.override.name = layer
    built = MODELS.build(head)
    built.init_weights()
    bias = getattr(built, layer).bias
    torch.testing.assert_close(bias, torch.full_like(bias, math.log(0.001 / 0.999)))


def test_they_train(config: Path, tmp_path: Path) -> None:
    log = tmp_path / 'log'
    code = run_quickly(ROOT / 'tools/train.py', config, '--work-dir', tmp_path, log=log)
    assert code == 0, log.read_text()
    (line,) = re.findall(r'Epoch\(train\) +\[1\]\[1/2\].*', log.read_text())
    assert 'NonFiniteGuardHook' in log.read_text()
    # A thousandth of 0.002, and the length of the gradient, which clipping has to know.
    assert 'lr: 2.0000e-06' in line and re.search(r'grad_norm: [0-9.]+', line)
