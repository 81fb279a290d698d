"""The pages of the benchmark: one of all machines, and one for each, from their records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmark import sections
from benchmark.charts import draw_charts
from benchmark.cost import linear, parts_of_time
from benchmark.machine import describe, describe_in_full
from benchmark.records import Record, keep_measurements, machine_of, read_records
from mmfocalx.reporting.wording import table

INTRODUCTION = Path(__file__).with_name('introduction.md')


def write_pages(page: Path, out: Path | None = None) -> None:
    """Write the page, and into the folder of its name the pages and charts of the machines.

    Args:
        page: the page of all machines.
        out: measurements, to become a record first; the records as they are if None.

    Raises:
        ValueError: if there are no measurements in ``out``.
    """
    folder = page.with_suffix('')
    if out is not None:
        for name in keep_measurements(out, folder):
            record = read_records(folder)[name]
            draw_charts(record['time'], record['memory'], folder / name)
    for path, text in pages(page).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pages(page: Path) -> dict[Path, str]:
    """Every page by its path, from the records and notes beside them."""
    folder = page.with_suffix('')
    records = read_records(folder)
    measured = {name: record for name, record in records.items() if record['time']}
    return {
        page: _of_all_machines(folder, records),
        **{
            folder / f'{name}.md': _of_machine(folder / name, record)
            for name, record in measured.items()
        },
    }


def _of_all_machines(folder: Path, records: Mapping[str, Record]) -> str:
    rows = [
        [
            f'[{describe(machine_of(record))}](#{name})',
            machine_of(record)['date'] or 'before this version',
            f'[all figures]({folder.name}/{name}.md)' if record['time'] else '-',
        ]
        for name, record in records.items()
    ]
    which = (
        'Figures of one kind of processor are not those of another. `tools/benchmark/losses.py '
        '--which` says which of these the machine at hand is.'
    )
    parts = [
        INTRODUCTION.read_text(), '## Machines', which,
        table(['machine', 'measured', 'figures'], rows),
    ]  # fmt: skip
    for name, record in records.items():
        parts += [
            f'<a id="{name}"></a>\n\n## {describe(machine_of(record))}',
            _measured_on(record),
            *sections.summary(record['time'], record['memory']),
            *_notes(folder / name),
        ]
    return _joined(parts)


def _of_machine(folder: Path, record: Record) -> str:
    times, memory = record['time'], record['memory']
    charts = [
        f'![{path.stem} of a loss step]({folder.name}/{path.name})'
        for path in sorted(folder.glob('*.png'))
    ]
    return _joined([
        f'# Loss steps: {describe(machine_of(record))}',
        f'[How it was measured](../{folder.parent.name}.md). {_measured_on(record)}',
        *charts,
        *sections.key_sizes(times, memory),
        *sections.heads(record['heads']),
        *sections.iterations(record['iteration']),
        *sections.every_case(times),
        *sections.peak_memory(memory),
        *linear(times),
        *parts_of_time(times),
        *sections.first_step(record['first_step']),
        *sections.where_slower(times),
        *sections.not_compared([*times, *record['heads'], *record['iteration']]),
    ])  # fmt: skip


def _measured_on(record: Record) -> str:
    dates: dict[str, list[str]] = {}
    for machine in record['machines']:
        dates.setdefault(describe_in_full(machine), []).append(machine['date'])
    return '\n\n'.join(
        f'Measured{" on " * any(days)}{" and ".join(sorted(days))}: {machine}.'
        for machine, days in dates.items()
    )


def _notes(folder: Path) -> list[str]:
    """What was written by hand about a machine's figures."""
    path = folder / 'notes.md'
    return [path.read_text()] if path.exists() else []


def _joined(parts: list[str]) -> str:
    return '\n\n'.join(part.strip() for part in parts) + '\n'
