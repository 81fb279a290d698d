"""Files that are whole at any moment, in UTF-8 whatever the locale, and known by their content."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

MISSING = 'missing'


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


@contextlib.contextmanager
def exclusive_folder(path: Path) -> Iterator[Path]:
    """An empty folder that one process has at a time, and others wait for.

    The lock on it ends with the process that holds it, so that the next one can tell, and remove,
    what a killed process left in it. It is removed in the end, unless it was moved.
    """
    while True:
        with contextlib.suppress(FileExistsError):  # `exist_ok` fails if it is moved meanwhile
            path.mkdir()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # moved or removed meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(descriptor, path):
                continue
            if any(path.iterdir()):
                shutil.rmtree(path)
                continue
            try:
                yield path
            finally:
                if _is_at(descriptor, path):
                    shutil.rmtree(path, ignore_errors=True)
            return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def file_hash(path: Path) -> str:
    """Hash of a file's content, 'missing' if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return _hash_of_version(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _hash_of_version(path: Path, changed: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
