"""Sweeps with stub trainings, in this process and in others."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from helpers import stub_tools
from helpers.forkserver import FORKSERVER
from mmfocalx.sweep.cli import main
from mmfocalx.sweep.storage import open_storage, storage_url

EPOCHS = 5
SEARCH = ('step=float:0.05:0.95', 'train_cfg.by=choice:1,2')


@functools.cache
def _opened(storage: str) -> BaseStorage:
    return open_storage(storage_url(storage), 60)


class Swept(NamedTuple):
    """What a sweep left: its exit code, its numbers and its page."""

    code: int
    numbers: dict[str, Any]
    page: str

    def trials(self) -> list[dict[str, Any]]:
        return self.numbers['trials']

    def states(self) -> list[str]:
        return [trial['state'] for trial in self.trials()]


class Sweep(NamedTuple):
    """A config, its stub tools, and where a sweep of it is."""

    tools: Path
    config: Path
    out: Path
    storage: str

    def words(self, *more: object) -> list[str]:
        """The command line."""
        own = [self.config, '--out', self.out, '--storage', self.storage, '--heartbeat', 1]
        return [str(word) for word in (*own, *more)]

    def run(self, *more: object) -> Swept:
        """Run it here."""
        return self.read(main(self.tools, self.words(*more)))

    def start(self, *more: object) -> BaseProcess:
        """Run it as a process; its exit code is that of the sweep."""
        process = FORKSERVER.Process(target=_main, args=(self.tools, self.words(*more)))
        process.start()
        return process

    def read(self, code: int = 0) -> Swept:
        numbers = json.loads((self.out / 'results.json').read_text())
        return Swept(code, numbers, (self.out / 'report.html').read_text(encoding='utf-8'))

    def attempts(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials that Optuna reads from the storage, those of some states, if there are any."""
        if not Path(self.storage).exists():
            return []
        try:
            study = optuna.load_study(study_name=self.config.stem, storage=_opened(self.storage))
        except KeyError:
            return []
        return study.get_trials(deepcopy=False, states=states or None)

    def ended(self) -> list[FrozenTrial]:
        """The trials that came to their end."""
        return self.attempts(TrialState.COMPLETE, TrialState.PRUNED)

    def folder(self, index: int, seed: int = 0) -> Path:
        return self.out / 'trials' / f'{index:04d}' / f'seed{seed}'

    def history(self, index: int) -> list[tuple[str, int]]:
        """Process and epoch of every epoch that a trial was trained for."""
        path = self.folder(index) / 'history.txt'
        lines = path.read_text().split('\n') if path.exists() else []
        return [
            (process, int(epoch)) for process, epoch in (line.split() for line in lines if line)
        ]


def a_sweep(root: Path, data: Path, kind: str = 'study.journal', **config: Any) -> Sweep:
    """A sweep of a stub config.

    Args:
        root: Folder of everything.
        data: Folder of the data set.
        kind: Name of the file that stores the study.
        config: See :func:`helpers.stub_tools.write_config`.
    """
    tools = root / 'tools'
    if not tools.exists():
        stub_tools.write_tools(tools)
    path = root / 'config.py'
    if not path.exists():
        stub_tools.write_config(path, data, **{'pause': 0.01} | config)
    return Sweep(tools, path, root / 'out', str(root / kind))


def final_value(step: float, seed: int = 0) -> float:
    """What a stub training comes to."""
    value = seed + 1.0
    for epoch in range(1, EPOCHS + 1):
        value = (value * 1.37 + step * epoch) % 1
    return value


def wait_for(condition: Callable[[], Any], *processes: BaseProcess, seconds: float = 120) -> Any:
    """The first true value of a condition; none of the processes may end before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, 'it takes too long'
        assert all(process.is_alive() for process in processes), 'a worker has ended'
        time.sleep(0.02)
    return found


def _main(tools: Path, words: list[str]) -> None:
    sys.exit(main(tools, words))
