"""What a number was made of, so that numbers made of different things are never mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfocalx.compare.resolved_config import annotation_files, config_hash, split_data
from mmfocalx.files import MISSING, file_hash

CONFIG = 'config'


def training_identity(config: Config) -> dict[str, str]:
    """Hashes of the config, its training annotations and the checkpoints that it starts from.

    Returns:
        ``{'config': hash}`` and a hash for each file, by its absolute path.
    """
    files = [*annotation_files(config, 'train'), *checkpoints(config.to_dict())]
    return {CONFIG: config_hash(config), **{str(path): file_hash(path) for path in files}}


def testing_identity(config: Config, split: str) -> dict[str, str]:
    """Hash of the annotations that a split is judged by, by their absolute path."""
    annotations = Path(split_data(config, split).annotations)
    return {str(annotations): file_hash(annotations)}


def watched_identity(config: Config) -> dict[str, str]:
    """The same of the annotations that a training watches its mAP on, if it does."""
    try:
        return testing_identity(config, 'val')
    except (ValueError, KeyError):  # it does not
        return {}


def now(identity: Mapping[str, str]) -> dict[str, str]:
    """What an identity of files is at present."""
    return {path: file_hash(Path(path)) for path in identity}


def checkpoints(value: Any) -> Iterator[Path]:
    """The local checkpoints that a config names, as ``load_from`` or to initialise a part."""
    if isinstance(value, Mapping):
        for key, content in value.items():
            if key in ('load_from', 'checkpoint') and isinstance(content, str):
                if '://' not in content:
                    yield Path(content).resolve()
            else:
                yield from checkpoints(content)
    elif isinstance(value, (list, tuple)):
        for content in value:
            yield from checkpoints(content)


def changes(before: Mapping[str, str], now: Mapping[str, str], needed: bool = True) -> list[str]:
    """In words, what differs between two identities.

    Args:
        before: One identity.
        now: The other.
        needed: Whether a file that is gone is a difference.
    """
    found = []
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if old == new or (new == MISSING and not needed):
            continue
        if key == CONFIG:
            found.append('the config with its options differs')
        elif new == MISSING:
            found.append(f'{key} is gone')
        elif old is None or new is None:
            found.append(f'{key} was {"not " if old is None else ""}used then')
        else:
            found.append(f'the content of {key} differs')
    return found
