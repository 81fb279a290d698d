"""A run, one config with one seed, and what became of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfocalx.compare.child_process import locked
from mmfocalx.compare.identity import changes, testing_identity, training_identity
from mmfocalx.compare.logs import was_started
from mmfocalx.compare.resolved_config import read_config
from mmfocalx.errors import check_choice
from mmfocalx.files import file_hash, read_json

SPLITS = ('val', 'test')


class ChangedRunError(ValueError):
    """A run of this name was trained with another configuration, or on other data."""


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
        content: What the config file said when it was read; read at first use if not given.
    """

    name: str
    seed: int
    config: Path
    work_dir: Path
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    split: str = 'val'
    content: Config | None = field(default=None, hash=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_choice('split', self.split, SPLITS)

    @property
    def label(self) -> str:
        """Name and seed, for messages."""
        return f'{self.name} seed {self.seed}'

    @property
    def result_file(self) -> Path:
        """Written once the run is finished."""
        return self.work_dir / self.split / 'result.json'

    @cached_property
    def settings(self) -> Config:
        """The config with its bases, the options and the seed merged in, as it was first read."""
        content = self.content or read_config(self.config)
        settings = Config(content.to_dict(), filename=str(self.config))
        settings.merge_from_dict({**self.options, 'randomness.seed': self.seed})
        return settings

    @cached_property
    def identity(self) -> dict[str, str]:
        """What the training is made of, as it was first looked at."""
        return training_identity(self.settings)

    @property
    def trained(self) -> bool:
        """Whether the training has come to its end."""
        with suppress(ValueError, KeyError, TypeError):
            return bool(read_json(self.work_dir / 'state.json')['trained'])
        return False

    @property
    def left_nothing(self) -> bool:
        """Whether the directory holds logs only: no checkpoint of any name, and no result."""
        found = self.trained or was_started(self.work_dir)
        return not found and not any(
            next(self.work_dir.rglob(pattern), None) for pattern in ('*.pth', 'result.json')
        )

    def finished(self) -> dict[str, Any] | None:
        """The stored result; None if there is none, or it is damaged or of other annotations."""
        with suppress(ValueError, KeyError, TypeError):
            result: dict[str, Any] | None = read_json(self.result_file)
            if result is None:
                return None
            predictions = self.result_file.parent / result['predictions']
            if file_hash(predictions) != result['predictions_hash']:
                return None
            if result['identity']['testing'] == testing_identity(self.settings, self.split):
                return result
        return None

    def check_unchanged(self) -> None:
        """Compare config and data with those that the directory was started with.

        Raises:
            ChangedRunError: If they differ, or it cannot be known.
        """
        now = self.identity
        try:
            state = read_json(self.work_dir / 'state.json')
        except ValueError as error:
            raise ChangedRunError(str(error)) from error
        if state is None and not was_started(self.work_dir):
            return
        before = state.get('identity') if isinstance(state, dict) else None
        if not isinstance(before, dict):
            raise ChangedRunError(
                f'{self.work_dir} does not say what it was trained with: its state.json is missing '
                'or was written by an older version'
            )
        found = changes(before, now, needed=not self.trained)
        if found:
            raise ChangedRunError(
                f'{self.config} seed {self.seed} is not what {self.work_dir} was started with: '
                + '; '.join(found)
            )

    def set_aside(self) -> Path:
        """Rename the directory, so that the run starts afresh and nothing is lost.

        Raises:
            BlockingIOError: If a training is at work in it.
        """
        with locked(self.work_dir):
            number = 1
            while (old := self.work_dir.with_name(f'{self.work_dir.name}.old{number}')).exists():
                number += 1
            return self.work_dir.rename(old)


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its result, or the reason why there is none."""

    run: Run
    result: dict[str, Any] | None
    reason: str = ''
    new: bool = True
    """False if the result was there before."""
