"""The files of the measurements, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.cases import loss_names
from mmfocalx.files import read_json

Record = dict[str, Any]


def read_records(folder: Path) -> list[Record]:
    """All measurements in a folder, by loss, form and size."""
    records = [read_json(path) for path in folder.glob('*.json')]
    order = {name: k for k, name in enumerate(loss_names())}

    def key(record: Record) -> tuple[Any, ...]:
        kind = record.get('dtype', ''), record.get('form', '')
        return order[record['loss']], kind, record.get('classes', 0), record.get('rows', 0)

    return sorted(records, key=key)


def plain(records: Iterable[Record]) -> list[Record]:
    """Those in single precision with hard labels."""
    return [one for one in records if (one['dtype'], one['form']) == ('fp32', 'labels')]


def size_of(record: Record) -> str:
    """N x C."""
    return f'{record["rows"]:,} x {record["classes"]:,}'


def short(value: float) -> str:
    """A positive number with three digits, or those before the point."""
    return f'{value:.2f}' if value < 10 else f'{value:.1f}' if value < 100 else f'{value:.0f}'
