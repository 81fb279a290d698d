"""Workers of one study that are killed: no trial is lost, and none counts twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from optuna.trial import TrialState

from helpers import tiny_detection
from helpers.sweeping import EPOCHS, Sweep, a_sweep, final_value, wait_for
from mmfocalx.sweep.slots import slots_of

TRIALS = 12
ARGUMENTS = ('--search', 'step=float:0.05:0.95', '--trials', TRIALS, '--sampler', 'random')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detection.write_dataset(tmp_path_factory.mktemp('set') / 'data')


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[float]:
    """What each trial of one worker that nothing happens to comes to."""
    swept = a_sweep(tmp_path_factory.mktemp('whole'), data).run(*ARGUMENTS)
    assert swept.code == 0
    return [trial['value'] for trial in swept.trials()]


def in_the_middle(sweep: Sweep, worker: BaseProcess) -> int | None:
    """The trial that a worker is training, once it has been for two epochs."""
    for slot in slots_of(sweep.attempts()):
        running = slot.last.state == TrialState.RUNNING
        if running and slot.last.user_attrs.get('worker', '').endswith(f' {worker.pid}'):
            return slot.index if 2 <= len(sweep.history(slot.index)) < EPOCHS - 1 else None
    return None


def begun(sweep: Sweep, worker: BaseProcess) -> bool:
    return in_the_middle(sweep, worker) is not None


@pytest.mark.parametrize('kind', ['study.db', 'study.journal'])
def test_one_of_two_workers_killed(
    tmp_path: Path, data: Path, uninterrupted: list[float], kind: str
) -> None:
    sweep = a_sweep(tmp_path, data, kind, pause=0.35)
    killed, left = sweep.start(*ARGUMENTS), sweep.start(*ARGUMENTS)
    wait_for(lambda: len(sweep.ended()) > 2, killed, left)
    lost = wait_for(partial(in_the_middle, sweep, killed), killed, left)
    os.kill(killed.pid, signal.SIGKILL)
    left.join(300)
    assert left.exitcode == 0

    states = Counter(trial.state.name for trial in sweep.attempts())
    assert states == {'COMPLETE': TRIALS, 'FAIL': 1}
    swept = sweep.read()
    assert swept.states() == ['complete'] * TRIALS
    assert [trial['value'] for trial in swept.trials()] == uninterrupted
    assert {k: len(trial['attempts']) for k, trial in enumerate(swept.trials())} == {
        k: 1 + (k == lost) for k in range(TRIALS)
    }
    for index in range(TRIALS):  # every epoch once, that of the lost worker resumed
        trained = sweep.history(index)
        assert [epoch for _, epoch in trained] == [*range(1, EPOCHS + 1)]
        assert len({process for process, _ in trained}) == 1 + (index == lost)

    best = swept.trials()[swept.numbers['best']]
    assert best['value'] == max(uninterrupted)
    assert retrained(sweep, tmp_path / 'again') == best['value']


def retrained(sweep: Sweep, work_dir: Path) -> float:
    """What the training of the best config comes to."""
    text = (sweep.out / 'best.py').read_text()
    base = sweep.config.read_text()  # the stub reads configs as scripts
    flat = work_dir.with_suffix('.py')
    flat.write_text(base + text)
    work_dir.mkdir()
    train = sweep.tools / 'train.py'
    subprocess.run([sys.executable, train, flat, '--work-dir', work_dir], check=True, timeout=120)
    return float((work_dir / f'epoch_{EPOCHS}.pth').read_text())


def test_every_worker_killed_and_started_again(
    tmp_path: Path, data: Path, uninterrupted: list[float]
) -> None:
    sweep = a_sweep(tmp_path, data, pause=0.35)
    for number in (1, 3):
        worker = sweep.start(*ARGUMENTS)
        wait_for(lambda number=number: len(sweep.ended()) >= number, worker)
        wait_for(partial(begun, sweep, worker), worker)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    swept = sweep.run(*ARGUMENTS)
    assert swept.code == 0
    assert [trial['value'] for trial in swept.trials()] == uninterrupted
    assert sum(len(trial['attempts']) for trial in swept.trials()) == TRIALS + 2


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_worker_gives_its_trial_back(
    tmp_path: Path, data: Path, number: signal.Signals
) -> None:
    sweep = a_sweep(tmp_path, data, pause=0.35)
    worker = sweep.start(*ARGUMENTS)
    wait_for(partial(begun, sweep, worker), worker)
    os.kill(worker.pid, number)
    worker.join(60)
    assert worker.exitcode == 130
    (waiting,) = sweep.attempts(TrialState.WAITING)
    assert sweep.attempts(TrialState.RUNNING) == []
    assert final_value(waiting.params['step']) not in [t.value for t in sweep.ended()]
