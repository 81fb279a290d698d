"""What `tools/sweep.py` refuses, and how it says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from helpers import stub_tools, tiny_detection
from helpers.sweeping import Sweep, a_sweep

ROOT = Path(__file__).resolve().parents[2]
STEP = ('--search', 'step=float:0.05:0.95')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detection.write_dataset(tmp_path_factory.mktemp('set') / 'data')


@pytest.fixture
def sweep(tmp_path: Path, data: Path) -> Sweep:
    return a_sweep(tmp_path, data)


def change_config(sweep: Sweep) -> None:
    text = sweep.config.read_text()
    sweep.config.write_text(text.replace("type='RetinaNet'", "type='FCOS'"))


def change_data(sweep: Sweep) -> None:
    found = re.search(r"ann_file='(.*/annotations.json)'", sweep.config.read_text())
    path = Path(found[1])
    path.write_text(path.read_text() + '\n')


CHANGES = {
    'config': (change_config, (*STEP, '--trials', 2), 'the config with its options differs'),
    'data': (change_data, (*STEP, '--trials', 2), 'annotations.json differs'),
    'space': (None, ('--search', 'step=float:0.05:0.9'),
              '--search step was float:0.05:0.95, and is float:0.05:0.9'),
    'more': (None, (*STEP, 'pause=choice:0.01,0.02'),
             '--search pause was not given, and is choice:0.01,0.02'),
    'seeds': (None, (*STEP, '--seeds', 0, 1), '--seeds was 0, and is 0 1'),
    'metric': (None, (*STEP, '--metric', 'AP50'), '--metric was mAP, and is AP50'),
    'sampler': (None, (*STEP, '--sampler', 'random'), '--sampler was tpe, and is random'),
    'options': (None, (*STEP, '--cfg-options', 'pause=0.02'),
                'the config with its options differs'),
}  # fmt: skip


@pytest.mark.parametrize('changed', CHANGES)
def test_a_study_of_something_else_is_refused(tmp_path: Path, changed: str) -> None:
    change, arguments, message = CHANGES[changed]
    sweep = a_sweep(tmp_path, tiny_detection.write_dataset(tmp_path / 'data'))
    before = sweep.run(*STEP, '--trials', 1)
    if change is not None:
        change(sweep)
    with pytest.raises(SystemExit, match=re.escape(message)) as error:
        sweep.run(*arguments)
    assert "the study 'config' is of something else" in str(error.value)
    assert len(sweep.attempts()) == 1
    assert sweep.read().numbers == before.numbers


def test_a_folder_holds_one_study(tmp_path: Path, sweep: Sweep) -> None:
    sweep.run(*STEP, '--trials', 1)
    for words in (['--study', 'other'], ['--storage', str(tmp_path / 'other.db')]):
        with pytest.raises(SystemExit, match='holds trials of another study'):
            sweep.run(*STEP, *words)


def test_trials_of_a_study_that_was_deleted_are_left_alone(sweep: Sweep) -> None:
    sweep.run(*STEP, '--trials', 1)
    before = {file: file.read_bytes() for file in (sweep.out / 'trials').rglob('*.*')}
    assert before
    Path(sweep.storage).unlink()
    for _ in range(2):
        (sweep.out / 'study.json').unlink(missing_ok=True)
        with pytest.raises(SystemExit, match=r'holds trials, but no study\.json'):
            sweep.run(*STEP, '--trials', 1)
    assert {file: file.read_bytes() for file in (sweep.out / 'trials').rglob('*.*')} == before


def test_a_study_of_optunas_own_is_left_alone(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmfocalx.sweep.study.PATIENCE', 0.1)
    backend = optuna.storages.journal.JournalFileBackend(sweep.storage)
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name='config', direction='maximize'
    )
    study.optimize(lambda trial: trial.suggest_float('x', 0, 1), n_trials=1)
    with pytest.raises(SystemExit, match='does not say what it is of'):
        sweep.run(*STEP)
    assert len(sweep.attempts()) == 1


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--search', 'steb=float:0:1'], "but got 'steb'. Did you mean 'step'?"),
        (['--search', 'step=0:1'], 'KEY=float:LOW:HIGH'),
        (['--search', 'step=float:0:1', '--sampler', 'grid'], 'for a grid'),
        (['--search', 'step=choice:1,2', '--sampler', 'grid', '--trials', '3'], '2 points only'),
        ([*STEP, '--storage', 'nosuch://x'], '--storage nosuch://x cannot be used'),
    ],
)
def test_mistakes_are_named_before_anything_starts(
    sweep: Sweep, words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        sweep.run(*words)
    assert not (sweep.out / 'trials').exists()
    assert sweep.attempts() == []


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--trials', '0'], '--trials must be at least 1, but got 0'),
        (['--heartbeat', '-1'], '--heartbeat must be at least 1, but got -1'),
        (['--seeds', '1', '1'], 'given twice'),
        (['--sampler', 'bayes'], 'invalid choice'),
    ],
)
def test_bad_arguments(
    sweep: Sweep, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        sweep.run(*words)
    assert message in capsys.readouterr().err


def test_data_that_are_missing_are_named(tmp_path: Path) -> None:
    tools = stub_tools.write_tools(tmp_path / 'tools')
    config = stub_tools.write_config(tmp_path / 'config.py', tmp_path / 'nowhere')
    sweep = Sweep(tools, config, tmp_path / 'out', str(tmp_path / 'study.db'))
    with pytest.raises(SystemExit, match=r'no file .*nowhere/annotations.json'):
        sweep.run(*STEP)


@pytest.mark.parametrize(('version', 'found'), [(None, 'none'), ('3.6.1', '3.6.1')])
def test_without_optuna_the_error_says_what_to_install(
    tmp_path: Path, version: str | None, found: str
) -> None:
    """Its distribution is hidden, or another one is found first."""
    code = f"""
import runpy, sys
from importlib import metadata
known = metadata.version
def version(name):
    if name != 'optuna': return known(name)
    if {version!r} is None: raise metadata.PackageNotFoundError(name)
    return {version!r}
metadata.version = version
sys.argv = ['sweep.py', '--help']
runpy.run_path({str(ROOT / 'tools' / 'sweep.py')!r}, run_name='__main__')
"""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f'ImportError: tools/sweep.py needs optuna>=4, but {found} is installed. '
        "To install: pip install 'optuna>=4'"
    )
