"""The OpenMMLab packages that mmfocalx works with, and one clear message where they fall short.

Two stacks provide the same import names: the original OpenMMLab distributions ("upstream") and the
maintained ``onedl-*`` ones ("fork"). Only the standard library and `packaging` are needed here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple


class Release(NamedTuple):
    """A distribution that provides an import name, and the versions of it that work here."""

    distribution: str
    supported: str
    tested: str


STACKS: Mapping[str, Mapping[str, Release]] = {
    'fork': {
        'mmengine': Release('onedl-mmengine', '>=0.10.12,<1', '0.10.12'),
        'mmcv': Release('onedl-mmcv', '>=2.3.6,<3', '2.3.6'),
        'mmdet': Release('onedl-mmdetection', '>=3.5.1,<4', '3.5.1'),
    },
    'upstream': {
        'mmengine': Release('mmengine', '>=0.10.7,<1', '0.10.7'),
        'mmcv': Release('mmcv', '>=2.1.0,<2.2', '2.1.0'),
        'mmdet': Release('mmdet', '>=3.3.0,<3.4', '3.3.0'),
    },
}

METRIC_PACKAGES = ('hotcoco', 'scipy')
"""The distributions that ScoreQualityMetric needs beside mmengine; optional, as it is."""

NEEDED_FOR = {
    'mmengine': ('mmengine',),
    'mmcv': ('mmengine', 'mmcv'),
    'mmdet': ('mmengine', 'mmcv', 'mmdet'),
}
"""Each package with those it builds on, in the order in which they are imported."""

_MODULES_IN_USE = {
    'mmengine': ('mmengine', 'mmengine.registry'),
    'mmcv': ('mmcv', 'mmcv.ops'),
    'mmdet': ('mmdet', 'mmdet.models', 'mmdet.datasets'),
}
_WITHOUT_OPERATORS = {'mmcv': ('mmcv-lite', 'mmcv-full')}


def require(*names: str) -> None:
    """Check that packages, with those they build on, are installed, supported and importable.

    Args:
        names: Import names among ``'mmengine'``, ``'mmcv'`` and ``'mmdet'``.

    Raises:
        ImportError: if one is not; the message says which, what was found, what is supported and
            how to install it.
        ValueError: if a name is not one of the three.
    """
    message = explain(*names)
    if message is not None:
        raise ImportError(message)


def explain(*names: str) -> str | None:
    """The message that :func:`require` would raise, or None when everything is usable."""
    for name in names:
        if name not in NEEDED_FOR:
            raise ValueError(
                f'Expected argument `names` to be among {list(NEEDED_FOR)}, but got {name!r}.'
            )
    needed = [name for name in NEEDED_FOR if any(name in NEEDED_FOR[asked] for asked in names)]
    faults: dict[str, str] = {}
    for name in needed:
        # A package that cannot be imported says nothing new once one that it builds on is at fault.
        fault = _missing_or_unsupported(name) or (None if faults else _import_fault(name))
        if fault is not None:
            faults[name] = fault
    if not faults:
        return None
    stack = _stack_in_use()
    lines = [f'mmfocalx needs {", ".join(names)} here, but:']
    lines += [f'  - {fault}' for fault in faults.values()]
    lines += ['Supported, either of:']
    lines += [f'  - {_describe(releases, needed)} ({title})' for title, releases in STACKS.items()]
    lines += [f'To install ({stack}):', f'  {_install_line(stack, needed, faults)}']
    return '\n'.join(lines)


def _installed(name: str) -> dict[str, str]:
    """The installed distributions that provide an import name, with their versions."""
    candidates = [releases[name].distribution for releases in STACKS.values()]
    found = {}
    for distribution in (*candidates, *_WITHOUT_OPERATORS.get(name, ())):
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


def _is_supported(name: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    ranges = [SpecifierSet(releases[name].supported) for releases in STACKS.values()]
    return any(allowed.contains(version, prereleases=True) for allowed in ranges)


def _missing_or_unsupported(name: str) -> str | None:
    found = _installed(name)
    if found:
        if any(_is_supported(name, version) for version in found.values()):
            return None
        return f'{_titled(found)} is not a supported version'
    try:  # without a distribution: a source tree on the path
        version = importlib.import_module(name).__version__
    except ModuleNotFoundError as error:
        return f'{name} is not installed' if error.name == name else None
    except Exception:
        return None
    return None if _is_supported(name, version) else f'{name} {version} is not a supported version'


def _import_fault(name: str) -> str | None:
    try:
        for module in _MODULES_IN_USE[name]:
            importlib.import_module(module)
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        return f'{_titled(_installed(name)) or name} cannot be imported ({reason})'
    return None


def _titled(found: Mapping[str, str]) -> str:
    return ' and '.join(f'{distribution} {version}' for distribution, version in found.items())


def _stack_in_use() -> str:
    """The stack of the first package that is installed, in import order, else the fork."""
    for name in NEEDED_FOR:
        found = _installed(name)
        for title, releases in STACKS.items():
            if releases[name].distribution in found:
                return title
    return 'fork'


def _describe(releases: Mapping[str, Release], names: list[str]) -> str:
    return ', '.join(releases[name].distribution + releases[name].supported for name in names)


def _install_line(stack: str, needed: list[str], faults: Mapping[str, str]) -> str:
    releases = STACKS[stack]
    wanted = [
        name for name in needed if name in faults or [*_installed(name)] != [releases[name][0]]
    ]
    pins = ' '.join(f'{releases[name].distribution}=={releases[name].tested}' for name in wanted)
    in_the_way = ' '.join(distribution for name in wanted for distribution in _installed(name))
    commands = [f'pip uninstall -y {in_the_way}'] if in_the_way else []
    if 'mmcv' in wanted:  # it compiles its operators against the torch that is installed
        commands += ["pip install 'setuptools<80' wheel ninja packaging"]
        commands += [f'pip install --no-build-isolation {pins}']
    else:
        commands += [f'pip install {pins}']
    return ' && '.join(commands)
