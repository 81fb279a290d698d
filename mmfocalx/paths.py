"""Where the shipped configs are, in a clone and in an installed wheel alike."""

from __future__ import annotations

import difflib
from pathlib import Path

from mmfocalx.errors import wrong


def config_path(name: str) -> str:
    """The absolute path of a shipped config, to inherit from in another project.

    .. code-block:: python

        _base_ = [__import__('mmfocalx').config_path('retinanet/NAME.py')]

    Args:
        name: The path of the config below ``configs/``, with forward slashes.

    Raises:
        ValueError: if there is no such config; the message lists the closest names.
    """
    root = _config_root()
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob('*.py'))
    if name in names:
        return str(root / name)
    close = difflib.get_close_matches(str(name), names, n=5, cutoff=0.4)
    hint = f'Close matches: {", ".join(close)}.' if close else f'See the {len(names)} in {root}.'
    wrong('name', 'a config that mmfocalx ships', name, hint=hint)


def _config_root() -> Path:
    package = Path(__file__).resolve().parent
    candidates = [package / 'configs', package.parent / 'configs']  # wheel, clone
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f'mmfocalx was installed without its configs: no {candidates[0]}')
