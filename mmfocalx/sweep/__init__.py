"""Searches for the best setting of a config; see ``tools/sweep.py --help``."""

from importlib import metadata

from packaging.version import Version

try:
    _found = metadata.version('optuna')
except metadata.PackageNotFoundError:
    _found = ''
if not _found or Version(_found) < Version('4'):
    raise ImportError(
        f'tools/sweep.py needs optuna>=4, but {_found or "none"} is installed. '
        "To install: pip install 'optuna>=4'"
    )
