"""The page of the benchmark, written from the files of its measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.cases import KEY_SIZES, Size
from benchmark.charts import draw_charts
from benchmark.cost import linear, profile
from benchmark.peers import EAGER, FLOOR, OURS, PARTS, PLAIN
from benchmark.records import Record, plain, read_records, short, size_of
from mmfocalx.compare.markdown import table

INTRODUCTION = """# Time and memory of a loss step

Forward and backward of one reduced loss on the CPU: logits in, value and gradient of the logits
out. Written by `make bench` (`tools/benchmark/losses.py`); not measured on a GPU.

{machine}

- The steps of a comparison run in turn in one process: median [quartiles] of {rounds} steps each,
  and the ratio to our compiled pass (`fused=True`) in the same run; above 1, ours is faster.
- A step of another library is timed only after its value and gradient agreed with ours. BCE and
  cross-entropy of torch, and our FocalLossX beside other losses, are other functions, to compare
  with. Peers that take dense targets make them from the labels within the step, as in training.
- The floor is `torch.sigmoid(x, out=buffer)` into memory in use: one read, one write, no gradient.
- Where the logits take more than 16 MiB, freed memory stays with the process (`mallopt`): by
  default glibc may give back what one step took, and another pays for getting it again.
- Memory is the peak of the process during a warm step above what logits and targets take, in
  multiples of the logits; the gradient itself is 1.
- One row in a hundred is positive. A case is N predictions x C classes.
"""


def write_page(out: Path, page: Path) -> None:
    """Write the page, and its charts into the folder of its name.

    Raises:
        ValueError: if there are no measurements in ``out``.
    """
    times, memory = (read_records(out / kind) for kind in ('time', 'memory'))
    if not times:
        raise ValueError(f'--out must hold measurements, but there are none in {out}')
    charts = draw_charts(times, memory, page.with_suffix(''))
    parts = [
        _introduction(times),
        *(f'![{title}]({page.stem}/{name})' for name, title in charts.items()),
        *_key_sizes(times, memory),
        *_other_sizes(times),
        *_memory(memory),
        *linear(times),
        *profile(times),
        *_first_steps(read_records(out / 'first_step')),
        *_lost(times),
        *_not_compared(times),
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text('\n\n'.join(part.strip() for part in parts) + '\n')


def _introduction(times: Sequence[Record]) -> str:
    machines = []
    for record in times:
        if record['machine'] not in machines:
            machines.append(record['machine'])
    lines = [
        f'Measured on {one["date"]}: {one["cpu"]}, {one["cores"]} cores, {one["threads"]} threads, '
        f'{one["system"]}, Python {one["python"]}, '
        + ', '.join(f'{name} {version}' for name, version in one['versions'].items())
        + '.'
        for one in machines
    ]
    rounds = ' or '.join(str(n) for n in sorted({record['rounds'] for record in times}))
    return INTRODUCTION.format(machine='\n'.join(lines), rounds=rounds)


def _time(result: Record) -> str:
    low, high = result['quartiles_ms']
    return f'{short(result["median_ms"])} [{short(low)}, {short(high)}]'


def _timed(record: Record) -> dict[str, Record]:
    return {name: one for name, one in record['candidates'].items() if 'median_ms' in one}


def _key_sizes(times: Sequence[Record], memory: Sequence[Record]) -> list[str]:
    sizes = [
        size for size in KEY_SIZES if any(Size(t['rows'], t['classes']) == size for t in times)
    ]
    parts = []
    peaks = {
        (one['loss'], size_of(one), name): peak / one['logits_bytes']
        for one in plain(memory)
        for name, peak in one['peak_bytes'].items()
        if peak is not None
    }
    for size in sizes:
        rows = []
        for record in plain(times):
            if (record['rows'], record['classes']) != size:
                continue
            for name, one in _timed(record).items():
                if name in PARTS:
                    continue
                peak = peaks.get((record['loss'], size_of(record), name))
                extra = '-' if peak is None else f'{peak:.2f}'
                step = f'**{name}**' if name == OURS else name
                rows.append([record['loss'], step, _time(one), f'{one["ratio"]:.2f}', extra])
        head = ['loss', 'step', 'ms', 'ratio to ours', 'peak memory']
        title = f'## {size.rows:,} x {size.classes:,}, hard labels, single precision'
        parts += [title, table(head, rows)]
    return parts


def _other_sizes(times: Sequence[Record]) -> list[str]:
    rows = []
    for record in times:
        timed = _timed(record)
        if OURS not in timed:
            continue
        peers = [
            f'{name} {one["ratio"]:.1f}'
            for name, one in timed.items()
            if name not in (OURS, EAGER, *PLAIN)
        ]
        rows.append([
            record['loss'], size_of(record), record['dtype'], record['form'], _time(timed[OURS]),
            f'{timed[EAGER]["ratio"]:.1f}' if EAGER in timed else '-',
            ', '.join(peers) or '-',
            f'{1 / timed[FLOOR]["ratio"]:.1f}' if FLOOR in timed else '-',
        ])  # fmt: skip
    head = ['loss', 'size', 'type', 'targets', 'ours, ms', 'eager / ours', 'others / ours',
            'ours / floor']  # fmt: skip
    return ['## Every case', table(head, rows)]


def _memory(memory: Sequence[Record]) -> list[str]:
    rows = [
        [
            one['loss'], size_of(one), one['dtype'], one['form'],
            ', '.join(
                f'{name} {"fails" if peak is None else format(peak / one["logits_bytes"], ".2f")}'
                for name, peak in one['peak_bytes'].items()
            ),
        ]
        for one in memory
    ]  # fmt: skip
    if not rows:
        return []
    head = ['loss', 'size', 'type', 'targets', 'peak in multiples of the logits']
    return ['## Peak memory', table(head, rows)]


def _first_steps(records: Sequence[Record]) -> list[str]:
    rows = []
    for one in records:
        first, second = (
            [step[f'{which}_seconds'] for step in one['warm']] for which in ('first', 'second')
        )
        low, middle, high = np.quantile(first, [0.25, 0.5, 0.75])
        rows.append([
            one['loss'],
            f'{one["cold"]["first_seconds"]:.1f}',
            f'{middle:.1f} [{low:.1f}, {high:.1f}]',
            f'{np.median(second):.3f}',
            str(one['cold']['graphs']),
            str(one['cold']['graphs_after_other_sizes']),
        ])  # fmt: skip
    if not rows:
        return []
    text = (
        f'Each in a new process, with a warm cache the median [quartiles] of {len(first)}; graphs '
        'by the counters of torch, before and after steps of four other N. Of a warm first step, '
        'four ninths are `import torch._inductor.compile_fx`; a third traces the loss and a '
        'thirteenth hashes the sources of torch, by '
        '`torch._dynamo.utils.compilation_time_metrics`.'
    )
    head = ['loss', 'first step, cold cache, s', 'warm cache, s', 'second step, s', 'graphs',
            'after other N']  # fmt: skip
    return ['## First step', text, table(head, rows)]


def _lost(times: Sequence[Record]) -> list[str]:
    rows = [
        [record['loss'], size_of(record), record['dtype'], record['form'], name,
         f'{one["ratio"]:.2f}']
        for record in times
        for name, one in _timed(record).items()
        if name not in (OURS, *PLAIN) and one['ratio'] < 1
    ]  # fmt: skip
    text = 'Every step that took less time than our pass for that loss:'
    head = ['loss', 'size', 'type', 'targets', 'faster step', 'its time / ours']
    return ['## Where ours is slower', *([text, table(head, rows)] if rows else ['Nowhere here.'])]


def _not_compared(times: Sequence[Record]) -> list[str]:
    lines: dict[str, None] = {}
    for record in times:
        for name, reason in record['missing'].items():
            lines[f'- {name}: not installed ({reason})'] = None
        for name, one in record['candidates'].items():
            case = f'{record["loss"]}, {size_of(record)}, {record["dtype"]}, {record["form"]}'
            if one['compared'] == 'fails':
                lines[f'- {name} ({case}): fails with {one["reason"].splitlines()[0]}'] = None
            elif one['compared'] == 'not the same function':
                lines[
                    f'- {name} ({case}): not the same function (value differs by '
                    f'{one["value_error"]:.1e}, gradient by {one["gradient_error"]:.1e})'
                ] = None
    return ['## Not compared', '\n'.join(lines) or 'Nothing.']
