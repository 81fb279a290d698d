"""The resumable runner: train a config, test its last checkpoint, keep the result."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfocalx.compare.child_process import Child, locked
from mmfocalx.compare.logs import (
    epochs_done,
    failure_reason,
    iterations,
    last_checkpoint,
    test_metrics,
    versions,
)
from mmfocalx.compare.resolved_config import config_hash, test_setup, write_config
from mmfocalx.files import read_json, write_json

SPLITS = ('val', 'test')
_TRAIN_SHARE = 0.95


class ChangedRunError(ValueError):
    """A run of this name was trained with another configuration."""


@dataclass(frozen=True)
class Run:
    """One config with one seed, in a directory of its own.

    Args:
        name: What the run is listed under; runs of one name differ by seed only.
        seed: Random seed, set as ``randomness.seed``.
        config: Path of the config file.
        work_dir: Directory of checkpoints, logs and the result.
        options: Settings that override the config's, as ``--cfg-options`` gives them.
        split: Annotated split that the last checkpoint is tested on, 'val' or 'test'.
    """

    name: str
    seed: int
    config: Path
    work_dir: Path
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    split: str = 'val'

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, but got {self.split!r}')

    @property
    def label(self) -> str:
        """Name and seed, for messages."""
        return f'{self.name} seed {self.seed}'

    @property
    def result_file(self) -> Path:
        """Written once the run is finished."""
        return self.work_dir / self.split / 'result.json'

    def resolve(self) -> Config:
        """The config with its bases, the options and the seed merged in."""
        config = Config.fromfile(str(self.config), import_custom_modules=False)
        config.merge_from_dict({**self.options, 'randomness.seed': self.seed})
        return config

    def finished(self) -> dict[str, Any] | None:
        """The stored result, or None."""
        return read_json(self.result_file)

    def check_unchanged(self) -> None:
        """Compare the config with the one that the directory was started with.

        Raises:
            ChangedRunError: If they differ.
        """
        state = read_json(self.work_dir / 'state.json')
        if state is not None and state['config_hash'] != config_hash(self.resolve()):
            raise ChangedRunError(
                f'{self.config} with its options differs from what {self.work_dir} was started with'
            )

    def set_aside(self) -> Path:
        """Rename the directory, so that the run starts afresh and nothing is lost."""
        number = 1
        while (kept := self.work_dir.with_name(f'{self.work_dir.name}.old{number}')).exists():
            number += 1
        return self.work_dir.rename(kept)


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its result, or the reason why there is none."""

    run: Run
    result: dict[str, Any] | None
    reason: str = ''
    new: bool = True
    """False if the result was there before."""


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
    if jobs < 1:
        raise ValueError(f'jobs must be at least 1, but got {jobs}')
    env = {}
    if jobs > 1:
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        env = {'OMP_NUM_THREADS': threads, 'MKL_NUM_THREADS': threads}
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


def _carry_out(run: Run, tools: Path, env: dict[str, str]) -> Generator[float, None, Outcome]:
    """Train and test one run; gives the finished part, 0 to 1, whenever it has to wait.

    Closing the generator ends the child process and releases the directory.
    """
    run.check_unchanged()
    if (result := run.finished()) is not None:
        return Outcome(run, result, new=False)
    with locked(run.work_dir) as lock:
        if (result := run.finished()) is not None:  # by another process, in the meantime
            return Outcome(run, result, new=False)
        config = run.resolve()
        state = _State.of(run, config)

        def command(tool: str, *arguments: object) -> list[str]:
            return [sys.executable, str(tools / tool), *map(str, arguments)]

        if not state.trained:
            train_config = write_config(config, run.work_dir / 'config' / f'{run.config.stem}.py')
            epochs = config.train_cfg.get('max_epochs') or config.train_cfg.max_iters
            child = Child(
                command('train.py', train_config, '--work-dir', run.work_dir, '--resume'),
                run.work_dir / 'train.log', lock, env,
            )  # fmt: skip
            state.save(run, began=child.started)
            try:
                while child.poll() is None:
                    yield _TRAIN_SHARE * epochs_done(run.work_dir) / epochs
            finally:
                child.stop()
                state.train_seconds += child.seconds
                state.peak_rss_mb = max(state.peak_rss_mb, child.peak_rss_mb)
                state.trained = child.poll() == 0
                state.save(run)
            if not state.trained:
                return Outcome(run, None, f'training: {failure_reason(child)}')

        test_dir = run.work_dir / run.split
        shutil.rmtree(test_dir, ignore_errors=True)
        test_config, truth = test_setup(config, run.split, test_dir)
        test_config_file = write_config(test_config, test_dir / 'config' / f'{run.config.stem}.py')
        checkpoint = last_checkpoint(run.work_dir)
        child = Child(
            command('test.py', test_config_file, checkpoint, '--work-dir', test_dir),
            run.work_dir / f'{run.split}.log', lock, env,
        )  # fmt: skip
        try:
            while child.poll() is None:
                yield _TRAIN_SHARE
        finally:
            child.stop()
        if child.poll() != 0:
            return Outcome(run, None, f'test: {failure_reason(child)}')

        result = {
            'name': run.name,
            'seed': run.seed,
            'split': run.split,
            'config': str(run.config),
            'options': {key: str(value) for key, value in run.options.items()},
            'config_hash': state.config_hash,
            'metrics': test_metrics(test_dir),
            'train_seconds': round(state.train_seconds, 1),
            'peak_rss_mb': round(state.peak_rss_mb, 1),
            'iterations': iterations(run.work_dir / 'train.log'),
            **truth,
            'versions': versions(),
        }
        write_json(run.result_file, result)
        return Outcome(run, result)


@dataclass
class _State:
    """What ``state.json`` keeps of a run that is not finished."""

    config_hash: str
    train_seconds: float = 0.0
    peak_rss_mb: float = 0.0
    trained: bool = False

    @classmethod
    def of(cls, run: Run, config: Config) -> _State:
        stored = read_json(run.work_dir / 'state.json') or {'config_hash': config_hash(config)}
        began = stored.pop('began', None)
        state = cls(**stored)
        log = run.work_dir / 'train.log'
        if began is not None and log.exists():  # killed before its time was added up
            state.train_seconds += max(0.0, log.stat().st_mtime - began)
        return state

    def save(self, run: Run, **more: float) -> None:
        write_json(run.work_dir / 'state.json', {**asdict(self), **more})
