"""Where a study is stored, and which of its trials have lost their worker.

A database has Optuna's heartbeats. A journal file has none: there, each worker touches a file
beside the journal while it carries out a trial. Ages of files are differences of times of one file
system, so clocks of different machines do not matter.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from mmfocalx.sweep.slots import ALREADY_OVER, WORKER

DATABASES = ('.db', '.sqlite', '.sqlite3')
"""Endings of files that hold a SQLite database; any other file is a journal."""
MISSED_BEATS = 3
"""A worker that has been silent for so many intervals is taken for lost."""
SQLITE_PATIENCE = 120
"""Seconds that a worker waits for others that write to a SQLite file."""
ATTEMPTS = 5
"""To open a database, which workers that start together make at once."""


def storage_url(storage: str) -> str:
    """The URL of a storage, which may be given as the path of a file."""
    if '://' in storage:
        return storage
    path = Path(storage).absolute()
    kind = 'sqlite' if path.suffix in DATABASES else 'journal'
    return f'{kind}:///{path}'


def open_storage(url: str, interval: int) -> BaseStorage:
    """The storage of a URL, made if missing.

    Args:
        url: Of a database, for SQLAlchemy, or ``journal:///PATH``.
        interval: Seconds between two heartbeats of a worker.

    Raises:
        Exception: Of any type, if it cannot be opened.
    """
    if (journal := journal_path(url)) is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal)))
    arguments: dict[str, Any] = {}
    if url.startswith('sqlite:///'):
        Path(url.removeprefix('sqlite:///')).parent.mkdir(parents=True, exist_ok=True)
        arguments = {'connect_args': {'timeout': SQLITE_PATIENCE}}
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(DBAPIError):  # another worker makes its tables at this moment
            return _database(url, interval, arguments)
        time.sleep(0.5)
    return _database(url, interval, arguments)


def _database(url: str, interval: int, arguments: dict[str, Any]) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=interval,
            grace_period=MISSED_BEATS * interval,
        )


def journal_path(url: str) -> Path | None:
    """The file of a journal; None for a database."""
    return Path(url.removeprefix('journal:///')) if url.startswith('journal://') else None


class Watch:
    """Says that a worker is alive, and finds the trials of those that are not.

    Args:
        study: The study.
        journal: Its file, where it is a journal.
        interval: Seconds between two heartbeats.
    """

    def __init__(self, study: optuna.Study, journal: Path | None, interval: int) -> None:
        self._study = study
        self._interval = interval
        self._patience = MISSED_BEATS * interval
        self._folder: Path | None = None
        if journal is not None:
            self._folder = journal.with_name(f'{journal.name}.workers')
        self._not_begun: dict[int, float] = {}

    @contextlib.contextmanager
    def alive(self, trial: optuna.Trial) -> Iterator[None]:
        """Beat for a trial that this worker carries out."""
        with contextlib.ExitStack() as beating:
            if self._folder is not None:  # for a database, Optuna does
                beating.enter_context(_beats(self._pulse(self._folder, trial), self._interval))
            trial.set_user_attr(WORKER, f'{socket.gethostname()}, process {os.getpid()}')
            yield

    def fail_lost(self) -> None:
        """Fail the trials that run without a worker."""
        if self._folder is None:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ExperimentalWarning)
                optuna.storages.fail_stale_trials(self._study)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if WORKER not in trial.user_attrs:
                lost = self._never_begins(trial.number)
            else:
                lost = self._folder is not None and self._silent(self._folder, trial)
            if lost:
                # Whoever of several workers is too late finds it failed.
                with contextlib.suppress(ValueError, ALREADY_OVER):
                    self._study.tell(trial.number, state=TrialState.FAIL)

    def _never_begins(self, number: int) -> bool:
        """Whether a worker drew the trial and has been gone since, as far as this one has seen."""
        since = self._not_begun.setdefault(number, time.monotonic())
        return time.monotonic() - since > self._patience

    def _silent(self, folder: Path, trial: FrozenTrial) -> bool:
        probe = folder / f'probe.{socket.gethostname()}.{os.getpid()}'
        try:
            last = self._pulse(folder, trial).stat().st_mtime
            probe.touch()
            return probe.stat().st_mtime - last > self._patience
        except FileNotFoundError:  # about to end, or of a worker that was lost before its first
            return self._never_begins(trial.number)
        finally:
            probe.unlink(missing_ok=True)

    def _pulse(self, folder: Path, trial: optuna.Trial | FrozenTrial) -> Path:
        return folder / f'{quote(self._study.study_name, safe="")}.{trial.number}'


@contextlib.contextmanager
def _beats(path: Path, interval: int) -> Iterator[None]:
    """Touch a file, now and at intervals, until the context ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(interval):
            with contextlib.suppress(OSError):  # a full disk for a while
                path.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)
