"""A validation without a detection: training goes on, and the best checkpoint is of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

import mmfocalx  # noqa: F401  (registers)
from helpers.tiny_detection import write_config, write_dataset


@HOOKS.register_module()
class FindsFrom(Hook):
    """Lets the detector report its boxes from an epoch on."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def before_val_epoch(self, runner: Any) -> None:
        runner.model.bbox_head.test_cfg.score_thr = 2.0 if runner.epoch < self.epoch else 0.0


def train(root: Path, finds_from: int, order: int = 1, **hooks: Any) -> tuple[Runner, str]:
    """Two epochs with a validation each; and what is logged."""
    data = write_dataset(root / 'data', images=4)
    config = Config.fromfile(write_config(root / 'config.py', data, epochs=2))
    metrics = ('CocoMetric', 'ScoreQualityMetric')[::order]
    config.val_evaluator = [dict(type=m, ann_file=f'{data}/annotations.json') for m in metrics]
    config.train_cfg.val_interval = 1
    config.default_hooks.update(hooks.pop('default_hooks', {}))
    config.custom_hooks = [dict(type='FindsFrom', epoch=finds_from), *hooks.pop('more', [])]
    config.work_dir = str(root / 'work')
    config.experiment_name = root.name
    runner = Runner.from_cfg(config)
    runner.train()
    (log,) = (root / 'work').glob('*/*.log')
    return runner, log.read_text()


def saving(best: Any, **more: Any) -> dict[str, Any]:
    return dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best=best, **more))


OPTIONS: dict[str, dict[str, Any]] = {
    'mAP': saving('coco/bbox_mAP'),
    'auto': saving('auto'),
    'a number of ours': saving('score_quality/oLRP', rule='less'),
    'both': saving(['coco/bbox_mAP', 'score_quality/oLRP'], rule=['greater', 'less']),
    'none': {},
}


@pytest.mark.parametrize('order', [1, -1])
@pytest.mark.parametrize('option', OPTIONS)
def test_training_goes_on_with_a_warning(tmp_path: Path, option: str, order: int) -> None:
    runner, log = train(tmp_path, 9, order, default_hooks=OPTIONS[option])
    assert runner.epoch == 2
    assert 'ScoreQualityMetric: there is no detection' in log
    assert not list((tmp_path / 'work').glob('best_*'))


@pytest.mark.parametrize('option', ['mAP', 'auto', 'a number of ours', 'both'])
def test_best_of_the_later_validations_is_saved(tmp_path: Path, option: str) -> None:
    _, log = train(tmp_path, 2, default_hooks=OPTIONS[option])
    assert 'ScoreQualityMetric: there is no detection' in log
    best = {path.name for path in (tmp_path / 'work').glob('best_*')}
    assert all(name.endswith('epoch_2.pth') for name in best)
    assert len(best) == (2 if option == 'both' else 1)


def test_early_stopping_goes_on(tmp_path: Path) -> None:
    stop = dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater', patience=5)
    with pytest.warns(UserWarning, match='Skip early stopping process'):
        runner, _ = train(tmp_path, 9, more=[stop])
    assert runner.epoch == 2
