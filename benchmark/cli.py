"""Measure the losses and the heads, or write the pages about what was measured. See ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark import isolated, timing
from benchmark.cases import (
    BATCH_SIZE,
    KEY_SIZES,
    MEMORY_SIZES,
    SIZES,
    Case,
    Size,
    loss_names,
    main_losses,
    plan,
)
from benchmark.detector import plan_detectors
from benchmark.devices import DEVICES
from benchmark.heads import CLASSES, OBJECTS, THREADS, plan_heads
from benchmark.machine import describe_in_full, machine_at_hand, record_name
from benchmark.query_heads import plan_query_heads
from benchmark.records import KINDS, read_records
from mmfocalx.files import write_json

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'benchmark.md'
MAX_ENTRIES = {'cpu': 25_000_000, 'cuda': BATCH_SIZE.entries}
Job = tuple[Path, Callable[[], dict[str, Any]]]
"""A file, and what measures its content."""


def measure_all(args: argparse.Namespace) -> None:
    """Measure what is not yet in ``args.out``."""
    machine = machine_at_hand(args.device)
    folder = args.out / record_name(machine)
    kinds = args.only or [kind for kind in KINDS if kind != 'iteration' or args.device != 'cpu']
    jobs = [job for job in jobs_of(args) if job[0].parts[0] in kinds]
    for done, (path, job) in enumerate(jobs, 1):
        target = folder / path
        kept = target.exists() and not args.fresh
        print(f'[{done}/{len(jobs)}] {path.parent} {path.stem}{" kept" * kept}', flush=True)
        if not kept:
            write_json(target, {**job(), 'machine': machine})


def jobs_of(args: argparse.Namespace) -> Iterator[Job]:
    """Everything to measure."""
    sizes = args.sizes or (_quick_sizes(args.device) if args.quick else None)
    losses = args.losses or (main_losses() if args.quick else loss_names())
    limit = args.max_entries or MAX_ENTRIES[args.device]
    cases = list(plan(losses, sizes or SIZES[args.device], limit, args.full, sizes is not None))
    if args.quick:
        cases = [case for case in cases if case.is_plain]
    cases.sort(key=timing.keeps_freed_memory)  # once done, it lasts
    device = DEVICES[args.device]
    for case in cases:
        measure = partial(timing.measure, case, args.rounds, device)
        yield Path('time', f'{case.name}.json'), measure
        if _memory_is_of_interest(case, args):
            yield Path('memory', f'{case.name}.json'), partial(_memory, case, args.device)
    size = sizes[0] if sizes else KEY_SIZES[0]
    for loss in losses if args.full else [name for name in losses if name in main_losses()]:
        processes = 3 if args.quick else isolated.WARM_PROCESSES
        measure = partial(isolated.first_steps, Case(loss, size), args.device, processes)
        yield Path('first_step', f'{loss}.json'), measure
    classes = args.classes or (CLASSES[-1:] if args.quick else CLASSES)
    threads = THREADS[:1] if args.quick else THREADS
    settings = args.device, args.image, classes, threads, args.objects
    for kind, planned in (
        ('heads', [*plan_heads(*settings), *plan_query_heads(*settings)]),
        ('iteration', plan_detectors(args.device, args.image)),
    ):
        for one in planned:
            measure = partial(
                isolated.in_new_process,
                kind,
                {'OMP_NUM_THREADS': str(one.threads)},
                record=one.record,
                device=args.device,
                **({} if args.rounds is None else {'rounds': args.rounds}),
            )
            yield Path(kind, f'{one.name}.json'), measure


def _quick_sizes(device: str) -> list[Size]:
    return [*KEY_SIZES, BATCH_SIZE] if device == 'cuda' else KEY_SIZES


def _memory_is_of_interest(case: Case, args: argparse.Namespace) -> bool:
    if args.full or args.sizes or args.device != 'cpu':
        return True
    return case.is_plain and case.size in (
        MEMORY_SIZES if case.loss in main_losses() else KEY_SIZES
    )


def _memory(case: Case, device: str) -> dict[str, Any]:
    """On a CPU the peak is that of a process, on a GPU that of its allocator."""
    measure = isolated.memory if device == 'cuda' else partial(isolated.in_new_process, 'memory')
    return {**case.record, 'peak_bytes': measure(record=case.record, device=device)}


def say_which(device: str, page: Path) -> None:
    """Print the machine at hand and whether it has a record."""
    machine = machine_at_hand(device)
    name = record_name(machine)
    records = read_records(page.with_suffix(''))
    print(describe_in_full(machine))
    print(f'Its record is {name}.' if name in records else f'It has no record ({name}) yet.')
    print('Records: ' + ', '.join(records))


def main(argv: Sequence[str] | None = None) -> int:
    """Time and peak memory of a loss step, beside other implementations of the same losses."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--out', type=Path, help='folder of the measurements')
    parser.add_argument(
        '--report',
        type=Path,
        metavar='PAGE.md',
        help='only write this page and those beside it, after the measurements in --out if given',
    )
    parser.add_argument('--which', action='store_true', help='only say which machine this is')
    parser.add_argument('--device', choices=DEVICES, default='cpu')
    parser.add_argument(
        '--only', nargs='+', choices=KINDS, help='what to measure; all, on a CPU all but iteration'
    )
    parser.add_argument('--sizes', type=Size.parse, nargs='+', help='such as 100000x80')
    parser.add_argument('--losses', nargs='+', choices=loss_names(), metavar='LOSS')
    parser.add_argument('--image', type=Size.parse, help='such as 800x1344, for the heads')
    parser.add_argument('--classes', type=int, nargs='+', help='of the heads; 3 and 80')
    parser.add_argument('--objects', type=int, default=OBJECTS, help='in each image')
    parser.add_argument('--quick', action='store_true', help='three losses at the main sizes')
    parser.add_argument(
        '--full', action='store_true', help='every loss, size, type and form (takes hours)'
    )
    parser.add_argument('--max-entries', type=int, help='cap on N x C')
    parser.add_argument('--rounds', type=int, help='samples of a step; 9, or 5 for large sizes')
    parser.add_argument('--fresh', action='store_true', help='measure again what is there')
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available() and args.report is None:
        parser.error('--device cuda needs a GPU that torch can use, but there is none')
    if args.which:
        say_which(args.device, args.report or PAGE)
    elif args.report is not None:
        from benchmark.report import write_pages  # draws, which measuring does not need

        write_pages(args.report, args.out)
    elif args.out is None:
        parser.error('one of --out, --report and --which is needed')
    else:
        measure_all(args)
    return 0
