"""A study that says what its numbers are of, and takes in nothing else under its name."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage

from mmfocalx.compare.identity import changes
from mmfocalx.files import read_json, write_json

MADE_OF, SETTINGS, IDENTITY = 'made of', 'settings', 'identity'
"""User attributes of a study: hashes, what the command line says, and a name of its own."""
PRUNERS = ('median', 'halving', 'none')
PATIENCE = 10.0
"""Seconds to wait for the worker that has just made a study to say what it is of."""


class OtherStudyError(ValueError):
    """A study of this name is of another config, other data or another search."""


def pruner(name: str) -> BasePruner:
    """The pruner of a name, among :data:`PRUNERS`."""
    if name == 'median':
        return MedianPruner(n_startup_trials=4)
    return SuccessiveHalvingPruner() if name == 'halving' else NopPruner()


def open_study(
    storage: BaseStorage,
    name: str,
    made_of: Mapping[str, str],
    settings: Mapping[str, str],
    **parts: Any,
) -> optuna.Study:
    """The study of a name, made if missing.

    Args:
        storage: Where it is stored.
        name: Of the study.
        made_of: Hashes of the config and of the files that it names.
        settings: What the command line says of the search.
        parts: Sampler and pruner.

    Raises:
        OtherStudyError: If there is one that was made of something else; it names what differs.
    """
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction='maximize', **parts)
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name, **parts)
        about = _about(study)
        if about:
            found = changes(about[MADE_OF], made_of) + _differences(about[SETTINGS], settings)
            if found:
                raise OtherStudyError(
                    f'the study {name!r} is of something else: {"; ".join(found)}. '
                    'Give another --study, and another --out'
                ) from None
            return study
        if study.get_trials(deepcopy=False):
            raise OtherStudyError(
                f'the study {name!r} does not say what it is of: tools/sweep.py did not make it. '
                'Give another --study'
            ) from None
    # Its maker was killed before this, if there was another: several who do it now say the same.
    study.set_user_attr(MADE_OF, dict(made_of))
    study.set_user_attr(SETTINGS, dict(settings))
    study.set_user_attr(IDENTITY, secrets.token_hex(8))
    return study


def _about(study: optuna.Study) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while IDENTITY not in (about := study.user_attrs):
        if time.monotonic() > deadline:
            return {}
        time.sleep(0.2)
    return about


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f'{key} was {before.get(key, "not given")}, and is {now.get(key, "not given")}'
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def claim(out: Path, study: optuna.Study) -> None:
    """Let a folder hold trials of one study only.

    Raises:
        OtherStudyError: If it holds those of another, or does not say whose.
    """
    mine = {'study': study.study_name, 'identity': study.user_attrs[IDENTITY]}
    file = out / 'study.json'
    held = any(out.glob('trials/*/'))  # asked first: another worker writes the file before trials
    before = read_json(file)
    if before is None:
        if held:
            raise OtherStudyError(
                f'--out {out} holds trials, but no study.json that says of which study. Give '
                'another --out, or move them away'
            )
        write_json(file, mine)
    elif before != mine:
        raise OtherStudyError(
            f'--out {out} holds trials of another study, {before.get("study")!r}, or of one of '
            'this name in another storage. Give another --out'
        )
