"""Checkpoints that load without running code from the file, and the newest whole one to resume.

A checkpoint of MMEngine holds more than tensors: the log history, NumPy scalars, and references to
the statistics methods of ``HistoryBuffer``. PyTorch's restricted unpickler (``weights_only=True``)
refuses these until they are allowed by name, which :func:`allow_mmengine_types` does. Needs PyTorch
and MMEngine only.
"""

from __future__ import annotations

import errno
import logging
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub, print_log
from packaging.version import Version

TRUST_FLAG = '--trust-checkpoint'
_STATISTICS = {name: getattr(HistoryBuffer, name) for name in ('min', 'max', 'mean', 'current')}
_MIN_TORCH = Version('2.6')  # the first whose restricted unpickler can be told names of its own
_torch_load = torch.load


class UntrustedCheckpointError(RuntimeError):
    """A checkpoint refers to something that may run code, so it was not loaded."""


class TornCheckpointError(RuntimeError):
    """A checkpoint is incomplete, or is no checkpoint at all."""


def _statistics_of_history_buffer(owner: object, name: str) -> Callable[..., Any]:
    """Stand in for ``builtins.getattr``, which pickle uses to refer to a method of a class."""
    if owner is HistoryBuffer and isinstance(name, str) and name in _STATISTICS:
        return _STATISTICS[name]
    owner_name = getattr(owner, '__qualname__', type(owner).__qualname__)
    raise UntrustedCheckpointError(
        f'builtins.getattr({owner_name}, {name!r}), of which only {sorted(_STATISTICS)} of '
        'HistoryBuffer are allowed'
    )


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What checkpoints of MMEngine refer to, with the names under which they do."""
    rebuild_array: Any = np.empty(0).__reduce__()[0]
    rebuild_scalar: Any = np.float64(0).__reduce__()[0]
    named: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_statistics_of_history_buffer, 'builtins.getattr'),
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (MessageHub, 'mmengine.logging.message_hub.MessageHub'),
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
    ]
    for core in ('numpy.core', 'numpy._core'):  # of NumPy 1.x, and of 2.x
        named += [
            (rebuild_array, f'{core}.multiarray._reconstruct'),
            (rebuild_scalar, f'{core}.multiarray.scalar'),
        ]
    # The unpickler sets the byte order of a dtype only where the class of the dtype is allowed too.
    codes = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?SU'
    dtypes = {type(np.dtype(code)) for code in codes}
    return named + [(dtype, f'{dtype.__module__}.{dtype.__qualname__}') for dtype in dtypes]


def allow_mmengine_types() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine writes; idempotent.

    On PyTorch before 2.6, whose ``torch.load`` is not restricted by default, this does nothing.
    """
    if Version(torch.__version__) >= _MIN_TORCH:
        torch.serialization.add_safe_globals(_allowed())


def load(file: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Load a checkpoint like ``torch.load``, always restricted, whatever the caller asks for.

    Args:
        file: Path or binary file, as in ``torch.load``.
        map_location: As in ``torch.load``.
        *args: Ignored: a pickle module.
        **kwargs: As in ``torch.load``; ``weights_only`` and ``pickle_module`` are ignored.

    Raises:
        UntrustedCheckpointError: if the file refers to anything that is not allowed, or PyTorch is
            too old to tell; nothing of it has run.
        TornCheckpointError: if the file is incomplete or no checkpoint.
        FileNotFoundError: if there is no such file.
    """
    title = file if isinstance(file, (str, Path)) else getattr(file, 'name', file)
    if Version(torch.__version__) < _MIN_TORCH:
        raise UntrustedCheckpointError(
            f'Cannot load checkpoint {title} safely: that needs torch>={_MIN_TORCH}, but found '
            f'torch {torch.__version__}. Upgrade torch, or, if you trust the author of the file, '
            f'pass {TRUST_FLAG}'
        )
    kwargs = {k: v for k, v in kwargs.items() if k not in ('weights_only', 'pickle_module')}
    _withdraw_unrestricted_getattr()
    allow_mmengine_types()
    try:
        return _torch_load(file, map_location, weights_only=True, **kwargs)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        offender = _offender(error)
        if offender is not None:
            raise UntrustedCheckpointError(
                f'Checkpoint {title} was not loaded: it refers to {offender}, which is not among '
                'the types of PyTorch, NumPy and MMEngine that are safe to load. If you trust the '
                f'author of the file, pass {TRUST_FLAG}: it can then run any code'
            ) from error
        if isinstance(error, RuntimeError) and 'PytorchStreamReader' not in str(error):
            raise
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of the ZIP reader
            raise
        raise TornCheckpointError(f'Checkpoint {title} is torn, or no checkpoint') from error


def _withdraw_unrestricted_getattr() -> None:
    """Undo what other code in the process may have allowed under the name of the stand-in."""
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(
        [entry for entry in known if entry not in (getattr, (getattr, 'builtins.getattr'))]
    )


def _offender(error: Exception) -> str | None:
    """What an unpickler refused, or None if it failed for another reason."""
    if isinstance(error, UntrustedCheckpointError):
        return str(error)
    if not isinstance(error, pickle.UnpicklingError):
        return None
    refused = re.search(
        r'GLOBAL (?P<name>\S+)|unrecognized (?:function|class) (?P<value>.+)|got (?P<type><.+>)',
        str(error),
    )
    return refused and next(filter(None, refused.groups()))


def is_whole(path: str | Path) -> bool:
    """Whether a file is a complete checkpoint: a ZIP archive, every record with its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        return False


def _checkpoints(folder: Path, pattern: str) -> list[Path]:
    """The checkpoints in a folder with a name of MMEngine's or of ``pattern``."""
    names = re.compile(rf'(epoch|iter)_\d+\.pth|{pattern}')
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if names.fullmatch(path.name) and path.is_file()]


def newest_whole_checkpoint(work_dir: str | Path) -> str | None:
    """The newest checkpoint of a training that is whole, to resume from.

    The checkpoints of every epoch or iteration count; the best ones and the published ones do not,
    as they hold no optimiser state. ``last_checkpoint``, which may be torn itself or point to a
    torn file, only says where to look if there are none in ``work_dir``, and for what names.

    Args:
        work_dir: Working folder of the training.

    Returns:
        The path of the checkpoint, or None if nothing has been trained here yet.

    Raises:
        TornCheckpointError: if something has, but no checkpoint of it is whole.
    """
    work_dir = Path(work_dir)
    record = work_dir / 'last_checkpoint'
    pointed = record.read_text(errors='replace').strip() if record.is_file() else ''
    if '://' in pointed:  # remote storage: what MMEngine recorded is all there is to know
        return pointed
    last = Path(pointed.replace('\0', ''))
    numbered = r'\d+'.join(map(re.escape, re.split(r'\d+', last.name)))
    found = _checkpoints(work_dir, numbered) or _checkpoints(last.parent, numbered)
    torn: list[Path] = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if is_whole(path):
            for skipped in torn:
                print_log(f'Not resumed from {skipped}: it is torn.', 'current', logging.WARNING)
            return str(path)
        torn.append(path)
    if torn or record.is_file():
        listed = ', '.join(map(str, torn)) or f'none found, but {record} names {pointed!r}'
        raise TornCheckpointError(
            f'Cannot resume in {work_dir}: no checkpoint there is whole ({listed}). Pass the path '
            'of one with --resume PATH, or train into another --work-dir'
        )
    print_log(f'No checkpoint in {work_dir} to resume from: training starts anew.', 'current')
    return None
