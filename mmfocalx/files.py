"""Files that are whole at any moment, in UTF-8 whatever the locale."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def read_json(path: Path) -> Any:
    """Content of a JSON file, or None if there is none.

    Raises:
        ValueError: If it is no JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f'{path} is damaged: it is no JSON ({error})') from error


@contextlib.contextmanager
def whole(path: Path, mode: str) -> Iterator[IO[Any]]:
    """A file to write, at any moment whole for those who read it: the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open(mode, encoding=None if 'b' in mode else 'utf-8') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write text as a :func:`whole` file."""
    with whole(path, 'w') as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as a :func:`whole` file."""
    with whole(path, 'w') as file:
        json.dump(content, file, indent=1)
