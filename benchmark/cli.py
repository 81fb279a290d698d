"""Measure the losses, or write the page about what was measured. See ``--help``."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark import timing
from benchmark.cases import (
    KEY_SIZES,
    MEMORY_SIZES,
    WITH_MMDET,
    Case,
    Size,
    loss_names,
    plan,
)
from benchmark.isolated import first_steps, in_new_process
from benchmark.report import write_page
from mmfocalx.files import write_json

MAX_ENTRIES = 25_000_000
PACKAGES = (
    'torch', 'mmdet', 'onedl-mmdetection', 'fvcore', 'imbalanced-losses', 'kornia', 'monai', 'timm',
)  # fmt: skip


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        'cpu': _cpu(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'system': platform.system(),
        'python': platform.python_version(),
        'versions': versions,
        'date': datetime.date.today().isoformat(),
    }


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def measure_all(args: argparse.Namespace) -> None:
    """Measure what is not yet in ``args.out``."""
    sizes = args.sizes or (KEY_SIZES if args.quick else None)
    losses = args.losses or (WITH_MMDET if args.quick else loss_names())
    cases = list(plan(losses, sizes, args.max_entries, args.full))
    if args.quick:
        cases = [case for case in cases if (case.dtype, case.form) == ('fp32', 'labels')]
    cases.sort(key=timing.keeps_freed_memory)  # once done, it lasts
    jobs: list[tuple[Path, Callable[[], dict[str, Any]]]] = []
    for case in cases:
        path = args.out / 'time' / f'{case.name}.json'
        jobs.append((path, partial(timing.measure, case, args.rounds)))
        if _memory_is_of_interest(case, args):
            path = args.out / 'memory' / f'{case.name}.json'
            jobs.append((path, partial(_memory, case)))
    if not args.no_first_step:
        size = sizes[0] if sizes else KEY_SIZES[0]
        for loss in losses if args.full else [name for name in losses if name in WITH_MMDET]:
            path = args.out / 'first_step' / f'{loss}.json'
            jobs.append((path, partial(first_steps, Case(loss, size))))
    for done, (path, job) in enumerate(jobs, 1):
        kept = path.exists() and not args.fresh
        print(f'[{done}/{len(jobs)}] {path.parent.name} {path.stem}{" kept" * kept}', flush=True)
        if not kept:
            write_json(path, {**job(), 'machine': machine()})


def _memory_is_of_interest(case: Case, args: argparse.Namespace) -> bool:
    if args.full or args.sizes:
        return True
    plain = (case.dtype, case.form) == ('fp32', 'labels')
    return plain and case.size in (MEMORY_SIZES if case.loss in WITH_MMDET else KEY_SIZES)


def _memory(case: Case) -> dict[str, Any]:
    return {
        **case.record,
        'logits_bytes': case.logits_bytes,
        'peak_bytes': in_new_process('memory', case),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Time and peak memory of a loss step, beside other implementations of the same losses."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--out', type=Path, required=True, help='folder of the JSON files')
    parser.add_argument(
        '--report', type=Path, metavar='PAGE.md', help='only write this page, from the files'
    )
    parser.add_argument('--sizes', type=Size.parse, nargs='+', help='such as 100000x80')
    parser.add_argument('--losses', nargs='+', choices=loss_names(), metavar='LOSS')
    parser.add_argument('--quick', action='store_true', help='three losses at two sizes')
    parser.add_argument(
        '--full', action='store_true', help='every loss, size, type and form (takes hours)'
    )
    parser.add_argument('--max-entries', type=int, default=MAX_ENTRIES, help='cap on N x C')
    parser.add_argument('--rounds', type=int, help='measured steps; 9, or 5 for large sizes')
    parser.add_argument('--no-first-step', action='store_true', help='skip the compiler caches')
    parser.add_argument('--fresh', action='store_true', help='measure again what is there')
    args = parser.parse_args(argv)
    if args.report is None:
        measure_all(args)
    else:
        write_page(args.out, args.report)
    return 0
