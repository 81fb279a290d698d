"""The resumable runner: train a config, test its last checkpoint, store the result."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmfocalx.compare.child_process import Child, locked
from mmfocalx.compare.identity import (
    CONFIG,
    changes,
    testing_identity,
    training_identity,
    watched_identity,
)
from mmfocalx.compare.logs import (
    divergence,
    failure_reason,
    iterations,
    last_checkpoint,
    test_metrics,
    trained_length,
    versions,
    was_started,
)
from mmfocalx.compare.resolved_config import (
    PREDICTIONS,
    split_data,
    testing_config,
    training_config,
    training_length,
    write_config,
)
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.errors import check_integer
from mmfocalx.files import file_hash, read_json, write_json

_TRAIN_SHARE = 0.95


def execute(
    runs: Iterable[Run],
    tools: Path,
    jobs: int = 1,
    on_progress: Callable[[dict[Run, float]], None] | None = None,
) -> Iterator[Outcome]:
    """Carry out runs, ``jobs`` at a time, and give each one's outcome as it ends.

    ``runs`` is read one by one as places become free, so a generator may choose the next run from
    the outcomes so far. Ending the iteration ends the child processes.

    Args:
        runs: What to train. A finished run is given back as it is.
        tools: Directory of ``train.py`` and ``test.py``.
        jobs: Number of concurrent runs; they share the processors.
        on_progress: Called several times a second with the finished part, 0 to 1, of each run
            that is under way.
    """
    jobs = check_integer('jobs', jobs, low=1)
    env = {'PYTHONUTF8': '1'}  # annotations are UTF-8 whatever the locale
    if jobs > 1:
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        env |= {'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
    waiting = iter(runs)
    active: dict[Run, Generator[float, None, Outcome]] = {}
    progress: dict[Run, float] = {}
    more = True
    try:
        while active or more:
            while more and len(active) < jobs:
                run = next(waiting, None)
                if run is None:
                    more = False
                else:
                    active[run] = _carry_out(run, tools, env)
            for run, steps in list(active.items()):
                try:
                    progress[run] = next(steps)
                except StopIteration as end:
                    del active[run]
                    progress.pop(run, None)
                    yield end.value
                except Exception as error:  # the trouble of one run must not end the others
                    del active[run]
                    progress.pop(run, None)
                    yield Outcome(run, None, f'{type(error).__name__}: {error}')
            if on_progress is not None:
                on_progress(progress)
            if active:
                time.sleep(0.2)
    finally:
        for steps in active.values():
            steps.close()


Steps = Generator[float, None, str]
"""Gives the finished part, 0 to 1, whenever it has to wait; in the end what went wrong, or ''."""


def _carry_out(run: Run, tools: Path, env: dict[str, str]) -> Generator[float, None, Outcome]:
    """Train and test one run; gives the finished part, 0 to 1, whenever it has to wait.

    Closing the generator ends the child process and releases the directory.
    """
    run.check_unchanged()
    if (result := run.finished()) is not None:
        return Outcome(run, result, new=False)
    with locked(run.work_dir) as lock:
        run.check_unchanged()  # nor by another process, in the meantime
        if (result := run.finished()) is not None:
            return Outcome(run, result, new=False)
        state = _State.of(run)
        reason = yield from _train(run, state, tools, lock, env)
        reason = reason or (yield from _test(run, tools, lock, env))
        if reason:
            return Outcome(run, None, reason)
        result = _result(run, state)
        write_json(run.result_file, result)
        return Outcome(run, result)


def _train(run: Run, state: _State, tools: Path, lock: int, env: dict[str, str]) -> Steps:
    if not state.trained:
        found = changes(run.identity, training_identity(run.settings))
        if found:
            return f'not trained: since the comparison was started, {"; ".join(found)}'
        config = training_config(run.settings)
        path = write_config(config, run.work_dir / 'config' / f'{run.config.stem}.py')
        command = [sys.executable, tools / 'train.py', path, '--work-dir', run.work_dir]
        if was_started(run.work_dir):  # else mmdet would drop the config's load_from
            command.append('--resume')
        state.began = time.time()
        state.save(run)
        child = Child([*map(str, command)], run.work_dir / 'train.log', lock, env)
        try:
            while child.poll() is None:
                yield _TRAIN_SHARE * trained_length(run.work_dir) / training_length(config)
        finally:
            child.stop()
            state.began = None
            state.train_seconds += child.seconds
            state.peak_rss_mb = max(state.peak_rss_mb, child.peak_rss_mb)
            state.trained = child.poll() == 0
            state.save(run)
        if not state.trained:
            return f'training: {failure_reason(child)}'
    diverged = divergence(run.work_dir)
    return f'training: {diverged}' if diverged else ''


def _test(run: Run, tools: Path, lock: int, env: dict[str, str]) -> Steps:
    test_dir = run.result_file.parent
    shutil.rmtree(test_dir, ignore_errors=True)
    config = testing_config(run.settings, run.split, test_dir)
    path = write_config(config, test_dir / 'config' / f'{run.config.stem}.py')
    checkpoint = last_checkpoint(run.work_dir)
    identity = testing_identity(run.settings, run.split)
    command = [sys.executable, tools / 'test.py', path, checkpoint, '--work-dir', test_dir]
    child = Child([*map(str, command)], run.work_dir / f'{run.split}.log', lock, env)
    try:
        while child.poll() is None:
            yield _TRAIN_SHARE
    finally:
        child.stop()
    if child.poll() != 0:
        return f'test: {failure_reason(child)}'
    found = changes(identity, testing_identity(run.settings, run.split))
    return f'test: meanwhile {"; ".join(found)}' if found else ''


def _result(run: Run, state: _State) -> dict[str, Any]:
    test_dir = run.result_file.parent
    data = split_data(run.settings, run.split)
    predictions = f'{PREDICTIONS}.bbox.json'
    return {
        'name': run.name,
        'seed': run.seed,
        'split': run.split,
        'config': str(run.config),
        'options': {key: str(value) for key, value in run.options.items()},
        'config_hash': state.identity[CONFIG],
        'identity': {
            'training': state.identity,
            'testing': testing_identity(run.settings, run.split),
            'watched': state.watched,
        },
        'metrics': test_metrics(test_dir),
        'train_seconds': round(state.train_seconds, 1),
        'peak_rss_mb': round(state.peak_rss_mb, 1),
        'iterations': iterations(run.work_dir / 'train.log'),
        'predictions': predictions,
        'predictions_hash': file_hash(test_dir / predictions),
        'annotations': data.annotations,
        'images': data.images,
        'versions': state.versions,
    }


@dataclass
class _State:
    """What ``state.json`` holds of a run."""

    identity: dict[str, str]
    versions: dict[str, str]
    watched: dict[str, str]
    """Identity of the annotations that mAP while training is of."""
    train_seconds: float = 0.0
    peak_rss_mb: float = 0.0
    trained: bool = False
    began: float | None = None
    """When the training that is under way was started."""

    @classmethod
    def of(cls, run: Run) -> _State:
        stored = read_json(run.work_dir / 'state.json')
        if stored is None:
            return cls(run.identity, versions(), watched_identity(run.settings))
        state = cls(**stored)
        if not state.trained:
            state.versions = _both(state.versions, versions())
        log = run.work_dir / 'train.log'
        if state.began is not None and log.exists():  # killed before its time was added up
            state.train_seconds += max(0.0, log.stat().st_mtime - state.began)
            state.began = None
        return state

    def save(self, run: Run) -> None:
        write_json(run.work_dir / 'state.json', asdict(self))


def _both(before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The versions of a training that was begun with some and resumed with others."""
    merged = dict(now)
    for package, version in before.items():
        if package not in now or not version.endswith(now[package]):
            merged[package] = f'{version}, then {now.get(package, "none")}'
    return merged
