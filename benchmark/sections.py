"""The sections of a machine's page: tables of what was measured there."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.cases import BATCH_SIZE, KEY_SIZES
from benchmark.peers import losses_of
from benchmark.records import Record, plain, short, size_of
from benchmark.steps import EAGER, FLOOR, OURS, PARTS, WITHOUT_GRADIENT
from mmfocalx.reporting.wording import table

OF_HOST = ['host, ms', 'waits']
"""Columns that only a GPU fills."""


def summary(times: Sequence[Record], memory: Sequence[Record]) -> list[str]:
    """The losses that mmdet has too, at the main sizes."""
    peaks = _peaks(memory)
    rows = []
    for record in plain(times):
        steps = _timed(record)
        size = record['rows'], record['classes']
        if record['loss'] not in losses_of('mmdet') or size not in (*KEY_SIZES, BATCH_SIZE):
            continue
        rows.append([
            record['loss'], size_of(record), _time(steps[OURS]), _ratio(steps, 'mmdet'),
            _ratio(steps, EAGER), f'{1 / steps[FLOOR]["ratio"]:.1f}',
            _peak(peaks, record, OURS), _peak(peaks, record, 'mmdet'),
        ])  # fmt: skip
    head = ['loss', 'size', 'ours, ms', 'mmdet / ours', 'eager / ours', 'ours / floor',
            'our memory', "mmdet's memory"]  # fmt: skip
    return [table(head, rows)] if rows else []


def key_sizes(times: Sequence[Record], memory: Sequence[Record]) -> list[str]:
    """Every step at the main sizes."""
    parts = []
    peaks = _peaks(memory)
    for size in (*KEY_SIZES, BATCH_SIZE):
        rows = [
            [
                record['loss'],
                f'**{name}**' if name == OURS else name,
                _time(step),
                f'{step["ratio"]:.2f}',
                _peak(peaks, record, name),
                *_of_host(step),
            ]
            for record in plain(times)
            if (record['rows'], record['classes']) == size
            for name, step in _timed(record).items()
            if name not in PARTS
        ]
        if rows:
            head = ['loss', 'step', 'ms', 'ratio to ours', 'peak memory', *OF_HOST]
            title = f'## {size.rows:,} x {size.classes:,}, hard labels, single precision'
            parts += [title, table(*_without_empty_columns(head, rows))]
    return parts


def heads(records: Sequence[Record]) -> list[str]:
    """The whole loss step of the heads."""
    text = (
        'A loss step is `loss_by_feat` and the gradients. `loss_by_feat` is the forward of the '
        'losses and what is not: targets, decoded boxes and qualities.'
    )
    return _watched('## Loss step of a head', text, 'loss step, ms', records)


def iterations(records: Sequence[Record]) -> list[str]:
    """The whole iteration of a detector."""
    text = (
        'RetinaNet R-50 FPN: forward, backward and a step of SGD. The peak is above what weights '
        'and optimizer take.'
    )
    return _watched('## Iteration of a detector', text, 'iteration, ms', records)


def _watched(title: str, text: str, step_title: str, records: Sequence[Record]) -> list[str]:
    rows = []
    for record in records:
        for name, step in _timed(record).items():
            peak = step['peak_bytes']
            rows.append([
                str(record['classes']), str(record['threads']),
                {True: 'bf16', False: 'fp32'}.get(record.get('autocast', ''), '-'), name,
                _time(step), f'{step["ratio"]:.2f}', short(step['loss_by_feat_ms']),
                short(step['loss_by_feat_ms'] - step['losses_forward_ms']),
                '-' if peak is None else f'{peak / 2**20:.0f}', *_of_host(step),
            ])  # fmt: skip
    if not rows:
        return []
    batch = {(one['images'], one['height'], one['width'], one['objects']) for one in records}
    batches = ', '.join(
        f'{n} images of {h} x {w} with {k} objects each' for n, h, w, k in sorted(batch)
    )
    head = ['classes', 'CPU threads', 'type', 'head and loss', step_title, "of mmdet's",
            '`loss_by_feat`, ms', 'of it not the losses', 'peak, MiB', *OF_HOST]  # fmt: skip
    return [title, f'{batches}. {text}', table(*_without_empty_columns(head, rows))]


def every_case(times: Sequence[Record]) -> list[str]:
    """Every case in a line."""
    rows = []
    for record in times:
        steps = _timed(record)
        if OURS not in steps:
            continue
        others = [
            f'{name} {step["ratio"]:.1f}'
            for name, step in steps.items()
            if name not in (OURS, EAGER, *WITHOUT_GRADIENT)
        ]
        rows.append([
            record['loss'], size_of(record), record['dtype'], record['form'], _time(steps[OURS]),
            _ratio(steps, EAGER), ', '.join(others) or '-',
            f'{1 / steps[FLOOR]["ratio"]:.1f}' if FLOOR in steps else '-',
        ])  # fmt: skip
    head = ['loss', 'size', 'type', 'targets', 'ours, ms', 'eager / ours', 'others / ours',
            'ours / floor']  # fmt: skip
    return ['## Every case', table(head, rows)]


def peak_memory(memory: Sequence[Record]) -> list[str]:
    """Peaks of every step."""
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
    head = ['loss', 'size', 'type', 'targets', 'peak in multiples of the logits']
    return ['## Peak memory', table(head, rows)] if rows else []


def first_step(records: Sequence[Record]) -> list[str]:
    """What the first step of a process takes."""
    rows = []
    for one in records:
        warm = one['warm']
        low, high = warm['quartiles_seconds']
        rows.append([
            one['loss'],
            f'{one["cold"]["first_seconds"]:.1f}',
            f'{warm["median_seconds"]:.1f} [{low:.1f}, {high:.1f}]',
            f'{warm["second_seconds"]:.3f}',
            str(one['cold']['graphs']),
            str(one['cold']['graphs_after_other_sizes']),
        ])  # fmt: skip
    if not rows:
        return []
    text = (
        f'Each in a new process, with a warm cache the median [quartiles] of '
        f'{records[0]["warm"]["processes"]}; graphs '
        'by the counters of torch, before and after steps of four other N.'
    )
    head = ['loss', 'first step, cold cache, s', 'warm cache, s', 'second step, s', 'graphs',
            'after other N']  # fmt: skip
    return ['## First step', text, table(head, rows)]


def where_slower(times: Sequence[Record]) -> list[str]:
    """Every step that beats ours."""
    rows = [
        [record['loss'], size_of(record), record['dtype'], record['form'], name,
         f'{step["ratio"]:.2f}']
        for record in times
        for name, step in _timed(record).items()
        if name not in (OURS, *WITHOUT_GRADIENT) and step['ratio'] < 1
    ]  # fmt: skip
    text = 'Every step that took less time than our pass for that loss:'
    head = ['loss', 'size', 'type', 'targets', 'faster step', 'its time / ours']
    return ['## Where ours is slower', *([text, table(head, rows)] if rows else ['Nowhere here.'])]


def not_compared(records: Sequence[Record]) -> list[str]:
    """The peers that could not take part, and why."""
    lines: dict[str, None] = {}
    for record in records:
        about = ', '.join(
            str(part)
            for part in (
                record.get('loss', record.get('head')),
                size_of(record) if 'rows' in record else f'{record["classes"]} classes',
                record.get('dtype'),
                record.get('form'),
            )
            if part is not None
        )
        for name, reason in record['missing'].items():
            lines[f'- {name}: not installed ({reason.splitlines()[0]})'] = None
        for name, step in record['steps'].items():
            if step['compared'] == 'fails':
                lines[f'- {name} ({about}): fails with {step["reason"].splitlines()[0]}'] = None
            elif step['compared'] == 'not the same function':
                lines[
                    f'- {name} ({about}): not the same function (value differs by '
                    f'{step["value_error"]:.1e}, gradient by {step["gradient_error"]:.1e})'
                ] = None
    return ['## Not compared', '\n'.join(lines) or 'Nothing.']


def _timed(record: Record) -> dict[str, Record]:
    return {name: step for name, step in record['steps'].items() if 'median_ms' in step}


def _time(step: Record) -> str:
    if 'quartiles_ms' not in step:
        return short(step['median_ms'])
    low, high = step['quartiles_ms']
    return f'{short(step["median_ms"])} [{short(low)}, {short(high)}]'


def _of_host(step: Record) -> list[str]:
    waits = step.get('host_waits')
    return [
        f'{step["host_ms"]:.2f}' if 'host_ms' in step else '-',
        '-' if waits is None else str(waits),
    ]


def _ratio(steps: dict[str, Record], name: str) -> str:
    return f'{steps[name]["ratio"]:.1f}' if name in steps else '-'


def _peaks(memory: Sequence[Record]) -> dict[tuple[str, str, str], float]:
    """Of the plain cases, in multiples of the logits."""
    return {
        (record['loss'], size_of(record), name): peak / record['logits_bytes']
        for record in plain(memory)
        for name, peak in record['peak_bytes'].items()
        if peak is not None
    }


def _peak(peaks: dict[tuple[str, str, str], float], record: Record, name: str) -> str:
    peak = peaks.get((record['loss'], size_of(record), name))
    return '-' if peak is None else f'{peak:.2f}'


def _without_empty_columns(
    head: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    kept = [k for k in range(len(head)) if any(row[k] != '-' for row in rows)]
    return [head[k] for k in kept], [[row[k] for k in kept] for row in rows]
