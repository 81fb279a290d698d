"""A warm-up that never ends is said, beside what MMEngine's schedulers really do."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.optim import ConstantLR, LinearLR, LinearMomentum, MultiStepLR

from helpers.tiny_detection import write_config, write_dataset
from helpers.tiny_runs import ROOT, run_quickly
from mmfocalx.engine import WarmupHook

OURS = ROOT / 'tools/train.py'


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.5)


def trained_with(scheduler: Any, steps: int) -> list[float]:
    """The learning rate of each step."""
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]['lr'])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def runner(schedulers: Any, epochs: int = 2, iterations: int = 20) -> SimpleNamespace:
    return SimpleNamespace(
        param_schedulers=schedulers,
        max_epochs=epochs,
        max_iters=iterations,
        logger=logging.getLogger('warmup'),
    )


def schedule(kind: type, low: float, **more: Any) -> Any:
    first = {'factor' if kind is ConstantLR else 'start_factor': low}
    return kind(optimizer(), **{'by_epoch': False, **first, **more})


@pytest.mark.parametrize('kind', [LinearLR, ConstantLR])
@pytest.mark.parametrize(('begin', 'end'), [(0, 1), (0, 2), (0, 5), (3, 4), (3, 5)])
def test_what_never_rises_is_refused(kind: type, begin: int, end: int) -> None:
    used = trained_with(schedule(kind, 0.01, begin=begin, end=end), 10)
    stays = used[-1] == pytest.approx(0.01)
    assert stays == (end - begin == 1)
    made = runner([schedule(kind, 0.01, begin=begin, end=end)])
    if not stays:
        WarmupHook().before_train(made)
        return
    says = (
        f'^Expected argument `end of {kind.__name__} of param_scheduler` to be at least '
        f'{begin + 2}, two steps after its begin, but got {end}. In MMEngine '
        'the value stays at 0.01 of'
    )
    with pytest.raises(ValueError, match=says):
        WarmupHook().before_train(made)


def test_schedules_of_several_optimizers_and_of_a_momentum() -> None:
    both = {'generator': [], 'critic': [schedule(LinearMomentum, 0.1, end=1)]}
    with pytest.raises(ValueError, match=r'`end of LinearMomentum of param_scheduler\.critic`'):
        WarmupHook().before_train(runner(both))


@pytest.mark.parametrize(
    'fine',
    [
        None,
        [],
        [schedule(LinearLR, 1.0, end=1)],
        [schedule(LinearLR, 1.0, end_factor=0.1, begin=0, end=1)],
        [schedule(LinearLR, 0.1, end=20)],
        [schedule(LinearLR, 0.1, begin=30, end=60)],
        [MultiStepLR(optimizer(), milestones=[1], end=1)],
    ],
    ids=['none', 'empty', 'level', 'falling', 'as long', 'never begun', 'another'],
)
def test_what_is_no_warm_up_is_passed_over(fine: Any, caplog: pytest.LogCaptureFixture) -> None:
    WarmupHook().before_train(runner(fine))
    assert not caplog.records


@pytest.mark.parametrize('kind', [LinearLR, ConstantLR])
@pytest.mark.parametrize(
    ('by_epoch', 'begin', 'end', 'steps'),
    [(False, 0, 100, 20), (False, 5, 40, 20), (True, 0, 3, 2)],
)
def test_a_warm_up_longer_than_the_training_is_said(
    kind: type, by_epoch: bool, begin: int, end: int, steps: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    more = dict(begin=begin, end=end, by_epoch=by_epoch)
    last = trained_with(schedule(kind, 0.01, **more), steps)[-1]
    WarmupHook().before_train(runner([schedule(kind, 0.01, **more)]))
    (record,) = caplog.records
    unit = 'epoch' if by_epoch else 'iteration'
    assert record.levelname == 'WARNING'
    assert record.getMessage() == (
        f'{kind.__name__} of param_scheduler ends at {unit} {end}, but the training has {steps}: '
        f'it comes to {last:.2g} of the value that is set.'
    )


@pytest.mark.parametrize(('end', 'code'), [(1, 1), (2, 0), (9, 0)])
def test_our_tool_says_it_before_it_trains(tmp_path: Path, end: int, code: int) -> None:
    config = write_config(tmp_path / 'config.py', write_dataset(tmp_path / 'data'), epochs=1)
    warmup = f"dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end={end})"
    work = f'work_dir = {str(tmp_path / "work")!r}'
    config.write_text(f'{config.read_text()}\nparam_scheduler = [{warmup}]\n{work}\n')
    log = tmp_path / 'log'
    assert run_quickly(OURS, config, log=log) == code, log.read_text()
    text = log.read_text()
    assert ('`end of LinearLR of param_scheduler` to be at least 2' in text) == (end == 1)
    assert ('LinearLR of param_scheduler ends at iteration 9' in text) == (end == 9)
    assert ('Epoch(train)' in text) == (code == 0)
