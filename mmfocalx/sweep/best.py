"""The best setting as a config that ``tools/train.py`` takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfocalx.compare.resolved_config import config_hash, read_config
from mmfocalx.files import whole


def write_inheriting_config(settings: Config, base: Path, path: Path, title: str) -> None:
    """Write a config that inherits from another and says what differs.

    The file is there, whole, only if it reads back as the settings.

    Args:
        settings: What it is to say, with everything merged in.
        base: The config that it inherits from.
        path: Where to write it.
        title: Lines for the comment on top.

    Raises:
        ValueError: If a written config cannot express it.
    """
    before = read_config(base)
    override = Config(difference(before.to_dict(), settings.to_dict()))
    comment = ''.join(f'# {line}\n' for line in title.splitlines())
    parent = os.path.relpath(base.resolve(), path.parent.resolve())
    text = f'{comment}_base_ = {parent!r}\n{override.pretty_text}'
    with whole(path, 'w') as file:
        file.write(text)
        file.flush()
        _check(Path(file.name), settings, base)


def _check(written: Path, settings: Config, base: Path) -> None:
    """Raise ValueError if a file does not read back as the settings."""
    trial = written.with_name(f'{written.name}.py')  # configs are known by this ending
    try:
        trial.write_text(written.read_text(encoding='utf-8'), encoding='utf-8')
        found = read_config(trial)
    finally:
        trial.unlink(missing_ok=True)
    if config_hash(found) != config_hash(settings):
        raise ValueError(f'{base} with its options holds values that no config file can inherit')


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a config that inherits ``before`` has to say, so that it says ``after``."""
    found: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if key in before and _same(old, value):
            continue
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if set(old) <= set(value):
                found[key] = difference(old, value)
            else:
                found[key] = {'_delete_': True, **value}
        else:
            found[key] = value
    return found


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
