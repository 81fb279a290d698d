"""The machine that figures depend on, and the name of its record."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    'torch', 'torchvision', 'mmdet', 'onedl-mmdetection', 'mmcv', 'onedl-mmcv', 'fvcore',
    'imbalanced-losses', 'kornia', 'monai', 'timm',
)  # fmt: skip


def machine_at_hand(device: str = 'cpu') -> dict[str, Any]:
    """What figures of a device of this machine depend on."""
    about: dict[str, Any] = {
        'device': device,
        'cpu': _cpu(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'system': platform.system(),
        'python': platform.python_version(),
        'versions': _versions(),
        'date': datetime.date.today().isoformat(),
    }
    if device == 'cuda':
        about['gpu'] = torch.cuda.get_device_name()
        about['versions']['CUDA'] = torch.version.cuda
        about['versions']["mmcv's operators"] = _operators_of_mmcv()
    return about


def record_name(machine: Mapping[str, Any]) -> str:
    """The name of a machine's record, such as 'amd-epyc-avx512': one for each kind of machine."""
    of_device = machine['gpu'] if machine['device'] == 'cuda' else machine['cpu']
    parts = [of_device] if machine['device'] == 'cuda' else [of_device, machine['instructions']]
    text = ' '.join(part for part in parts if part).lower().replace('(r)', '')
    return re.sub(r'[^a-z0-9]+', '-', text).strip('-')


def describe(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    if machine['device'] == 'cuda':
        return str(machine['gpu'])
    return f'{machine["cpu"]} ({machine["instructions"] or "vector instructions not recorded"})'


def describe_in_full(machine: Mapping[str, Any]) -> str:
    """A machine with all that its figures depend on, as far as it was recorded."""
    on_gpu = machine['device'] == 'cuda' and machine['cpu']
    parts = [
        describe(machine),
        f'{machine["cpu"]} ({machine["instructions"]})' if on_gpu else '',
        _number(machine['cores'], 'core'),
        _number(machine['threads'], 'thread'),
        machine['system'] or '',
        f'Python {machine["python"]}' if machine['python'] else '',
        *(f'{name} {version}' for name, version in machine['versions'].items()),
    ]
    return ', '.join(part for part in parts if part)


def _number(count: int | None, noun: str) -> str:
    return '' if not count else f'{count} {noun}{"s" * (count > 1)}'


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _operators_of_mmcv() -> str:
    """Whether mmdet's focal loss is mmcv's own kernel here."""
    try:
        found = importlib.util.find_spec('mmcv._ext')
    except Exception:  # whatever mmcv raises when it is imported
        found = None
    if found is None or found.origin is None:
        return 'missing'
    return 'of Python, a stand-in' if found.origin.endswith('.py') else 'compiled'


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()
