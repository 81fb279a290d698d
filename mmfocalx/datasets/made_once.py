"""Data sets that are made on the spot: whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmfocalx.errors import wrong
from mmfocalx.files import exclusive_folder


def make_once(
    out: str | os.PathLike[str],
    what: str,
    stamp: Mapping[str, Any],
    write: Callable[[Path], None],
) -> bool:
    """Make a data set in the folder ``out``, unless it is there; others wait meanwhile.

    Args:
        out: The folder to make.
        what: Name of the kind of set; the file that says which one it is is named after it.
        stamp: What tells this set from another one of its kind, as JSON.
        write: Called with an empty folder, into which it writes the set.

    Returns:
        True if the set was made, False if a finished one with this stamp was there.

    Raises:
        ValueError: ``out`` holds something else.
    """
    target, kind = Path(out).absolute(), what.replace(' ', '_')
    stamp_file = f'{kind}.json'
    if _is_finished(target, what, stamp_file, stamp):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_folder(target.with_name(f'.{target.name}.{kind}.part')) as scratch:
        if _is_finished(target, what, stamp_file, stamp):  # by the one that had the folder before
            return False
        write(scratch)
        (scratch / stamp_file).write_text(json.dumps(stamp))
        try:
            scratch.rename(target)
        except OSError:  # a copy of the finished set may have come from elsewhere meanwhile
            if not _is_finished(target, what, stamp_file, stamp):
                raise
            return False
    return True


def _is_finished(folder: Path, what: str, stamp_file: str, stamp: Mapping[str, Any]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    file = folder / stamp_file
    found = json.loads(file.read_text()) if file.is_file() else None
    if found == stamp:
        return True
    held = f'{what} of {found}' if found else 'something that is no finished set'
    wrong(
        'out',
        f'a folder that is absent, empty or {what} of {dict(stamp)}',
        str(folder),
        hint=f'It holds {held}. Remove it or choose another folder.',
    )
