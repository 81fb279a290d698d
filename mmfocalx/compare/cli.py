"""The command line of a comparison: plan, train and test, report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mmfocalx.compare.child_process import locked, sigterm_as_exit
from mmfocalx.compare.detection_files import compare_files
from mmfocalx.compare.execution import execute
from mmfocalx.compare.logs import HEADLINE
from mmfocalx.compare.plan import parse_args, planned_runs, refused, settle_changed_runs
from mmfocalx.compare.report import Report, write_reports
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.reporting.console import progress_bar, write_line_by_line
from mmfocalx.reporting.wording import percent

PATIENCE = 2.0
"""Seconds to wait for another comparison in the same folder."""


def carry_out(plan: Sequence[Run], report: Report, tools: Path, jobs: int) -> None:
    """Execute the runs of a plan that the report knows nothing of yet.

    A terminal shows a progress bar; a file gets a line for each run that begins.
    """
    runs = [run for run in plan if run not in report.outcomes]
    before = sum(run.finished() is not None for run in runs)
    bar = progress_bar(len(runs), before)
    ended = 0
    begun: set[Run] = set()

    def show(active: dict[Run, float]) -> None:
        if not sys.stdout.isatty():
            for run in active:
                if run not in begun:
                    log = f'{run.split}.log' if run.trained else 'train.log'
                    print(f'begun     {run.label} (log: {run.work_dir / log})')
            begun.update(active)
        bar.n = ended + sum(active.values())
        running = ', '.join(f'{run.label} {share:.0%}' for run, share in active.items())
        bar.set_postfix_str(f'{ended}/{len(runs)} runs done; {running}')

    with bar:
        for outcome in execute(runs, tools, jobs, show):
            ended += 1
            bar.write(describe(outcome), file=sys.stdout)
            report.add(outcome)
            report.write_tables()


def describe(outcome: Outcome) -> str:
    """One line on what became of a run."""
    if outcome.result is None:
        return f'FAILED {outcome.run.label}: {outcome.reason} (log: {outcome.run.work_dir})'
    state = 'done' if outcome.new else 'was there'
    ap = outcome.result['metrics'].get(HEADLINE['mAP'])
    return f'{state:9} {outcome.run.label}: mAP {"unknown" if ap is None else percent(ap)}'


def main(tools: Path, arguments: Sequence[str] | None = None) -> int:
    """Compare configs as the command line says; ``tools`` is where ``train.py`` is.

    Returns:
        0 if every run and every part of the report is there, 1 if not, 130 after Ctrl-C.
    """
    args = parse_args(arguments)
    write_line_by_line()
    command = shlex.join(['python', 'tools/compare.py', *(arguments or sys.argv[1:])])
    with sigterm_as_exit(), ExitStack() as held:
        try:
            held.enter_context(locked(args.out, patience=PATIENCE))
        except OSError as error:
            raise SystemExit(f'--out {args.out} cannot be used: {error}') from None
        if args.detections:
            return _compare_files(args, command)
        try:
            plan = planned_runs(args)
            report = Report(plan, args.out, command)
            for outcome in refused(plan):
                print(describe(outcome))
                report.add(outcome)
            settle_changed_runs(
                [run for run in plan if run not in report.outcomes], args.rerun_changed
            )
            carry_out(plan, report, tools, args.jobs)
        except KeyboardInterrupt:
            print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
            return 130
        complete = report.write()
    return 0 if complete else 1


def _compare_files(args: argparse.Namespace, command: str) -> int:
    try:
        comparison = compare_files(args.detections, args.annotations, args.images, command)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    names = (args.out / name for name in ('report.html', 'report.md', 'results.json'))
    return 0 if write_reports(comparison, *names) else 1
