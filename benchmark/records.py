"""The files of the measurements: one for each case, and one record for each machine.

A record holds what the pages are written from; it stands beside them, as
``benchmark/NAME/record.json``, with hand-written notes in ``notes.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.cases import Case, loss_names
from mmfocalx.files import read_json, whole

Record = dict[str, Any]
KINDS = ('time', 'memory', 'first_step', 'heads', 'iteration')
"""What is measured, each kind in a folder of its own."""


def of_measurements(folder: Path) -> Record:
    """The record of a machine, from the files of its measurements."""
    record: Record = {'machines': []}
    for kind in KINDS:
        record[kind] = [
            _without_samples(read_json(path)) for path in sorted((folder / kind).glob('*.json'))
        ]
        for one in record[kind]:
            machine = one.pop('machine')
            if machine not in record['machines']:
                record['machines'].append(machine)
    return record


def keep_measurements(out: Path, pages: Path) -> list[str]:
    """Replace the records of the machines that were measured in ``out``; give their names.

    Raises:
        ValueError: if there are no measurements in ``out``.
    """
    folders = [folder for folder in sorted(out.glob('*')) if (folder / 'time').is_dir()]
    if not folders:
        raise ValueError(f'--out must hold measurements, but there are none in {out}')
    for folder in folders:
        write_record(pages / folder.name / 'record.json', of_measurements(folder))
    return [folder.name for folder in folders]


def write_record(path: Path, record: Record) -> None:
    """Write a record, a case in a line, numbers with four digits."""
    lists = (
        f' {json.dumps(name)}: [\n'
        + ',\n'.join('  ' + json.dumps(_rounded(one)) for one in ones)
        + '\n ]'
        for name, ones in record.items()
    )
    with whole(path, 'w') as file:
        file.write('{\n' + ',\n'.join(lists) + '\n}\n')


def read_records(pages: Path) -> dict[str, Record]:
    """The records beside the pages by name, the ones with most measurements first."""
    records = {path.parent.name: read_json(path) for path in pages.glob('*/record.json')}
    for record in records.values():
        for kind in KINDS:
            record[kind] = sorted(record.get(kind, []), key=_order)
    return dict(sorted(records.items(), key=lambda item: (-len(item[1]['time']), item[0])))


def machine_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of a record, as it was measured last."""
    machine: dict[str, Any] = max(record['machines'], key=lambda machine: machine['date'])
    return machine


def plain(records: Iterable[Record]) -> list[Record]:
    """The cases in single precision with hard labels."""
    return [one for one in records if Case.of_record(one).is_plain]


def size_of(record: Record) -> str:
    """N x C."""
    return f'{record["rows"]:,} x {record["classes"]:,}'


def short(value: float) -> str:
    """A positive number with three digits, or those before the point."""
    return f'{value:.2f}' if value < 10 else f'{value:.1f}' if value < 100 else f'{value:.0f}'


def _order(one: Record) -> tuple[Any, ...]:
    names = loss_names()
    loss = one.get('loss')
    return (
        names.index(loss) if loss in names else len(names), one.get('head', ''),
        one.get('dtype', ''), one.get('form', ''), one.get('classes', 0), one.get('rows', 0),
        one.get('threads', 0), one.get('autocast', False),
    )  # fmt: skip


def _without_samples(one: Any) -> Any:
    if isinstance(one, dict):
        return {key: _without_samples(value) for key, value in one.items() if key != 'samples'}
    return one


def _rounded(one: Any) -> Any:
    if isinstance(one, dict):
        return {key: _rounded(value) for key, value in one.items()}
    if isinstance(one, list):
        return [_rounded(value) for value in one]
    return float(f'{one:.4g}') if isinstance(one, float) else one
