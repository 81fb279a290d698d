"""Train and test several configs over several seeds, and report what differs.

A comparison that was killed goes on where it stopped; a finished run is never repeated. Under
``--out``: ``report.html``, ``report.md``, ``results.json`` and for each run a directory
``runs/CONFIG/seedK``.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from tqdm import tqdm  # type: ignore[import-untyped]

from mmfocalx.compare.child_process import sigterm_as_exit
from mmfocalx.compare.evaluation_cache import judge
from mmfocalx.compare.groups import Group, group
from mmfocalx.compare.html import html_report
from mmfocalx.compare.markdown import markdown_report
from mmfocalx.compare.results import judged, write_results
from mmfocalx.compare.runs import SPLITS, ChangedRunError, Outcome, Run, execute

BAR = '{percentage:3.0f}%|{bar}|{postfix} [{elapsed}, about {remaining} left]'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'configs',
        nargs='+',
        type=Path,
        metavar='CONFIG',
        help='config files; the first is the baseline',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        default=[0, 1, 2],
        help='random seeds each config is trained with (default: 0 1 2)',
    )
    parser.add_argument('--out', type=Path, required=True, help='directory of runs and report')
    parser.add_argument(
        '--split',
        choices=SPLITS,
        default='val',
        help='split that the last checkpoints are tested on (default: val)',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='runs trained at the same time, sharing the processors (default: 1)',
    )
    parser.add_argument(
        '--rerun-changed',
        action='store_true',
        help='train again what was started with another configuration; the old '
        'directory is kept under another name',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help="settings that override every config's",
    )
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, but got {args.jobs}')
    for config in args.configs:
        if not config.is_file():
            parser.error(f'no such config file: {config}')
    for what, given in (('seed', args.seeds), ('config name', [c.stem for c in args.configs])):
        twice = sorted({str(one) for one in given if given.count(one) > 1})
        if twice:
            parser.error(f'{what} given twice: {", ".join(twice)}')
    return args


def planned_runs(args: argparse.Namespace) -> list[Run]:
    """All configs with the first seed, then all with the next: early results compare."""
    return [
        Run(
            name=config.stem,
            seed=seed,
            config=config,
            work_dir=args.out / 'runs' / config.stem / f'seed{seed}',
            options=args.cfg_options,
            split=args.split,
        )
        for seed in args.seeds
        for config in args.configs
    ]


def admit(runs: list[Run], rerun_changed: bool) -> None:
    """Stop before anything is trained if a run's config is not the one it was started with."""
    for run in runs:
        try:
            run.check_unchanged()
        except ChangedRunError as error:
            if not rerun_changed:
                raise SystemExit(
                    f'{error}.\nGive another --out, or --rerun-changed to train it again.'
                ) from None
            print(f'{run.label}: changed; the old run is kept in {run.set_aside()}')


def carry_out(runs: list[Run], tools: Path, jobs: int, out: Path) -> list[Outcome]:
    """Execute runs with a progress bar; outcomes in the order of ``runs``."""
    outcomes: dict[Run, Outcome] = {}
    before = sum(run.finished() is not None for run in runs)
    bar = tqdm(total=len(runs), initial=before, disable=None, smoothing=0, bar_format=BAR)

    def show(active: dict[Run, float]) -> None:
        bar.n = len(outcomes) + sum(active.values())
        running = ', '.join(f'{run.label} {share:.0%}' for run, share in active.items())
        bar.set_postfix_str(f'{len(outcomes)}/{len(runs)} runs done; {running}')

    with bar:
        for outcome in execute(runs, tools, jobs, show):
            outcomes[outcome.run] = outcome
            bar.write(describe(outcome), file=sys.stdout)
            with contextlib.suppress(Exception):  # the report raises it, when all runs are done
                judge(outcome)
            write_tables([outcomes[run] for run in runs if run in outcomes], out)
    return [outcomes[run] for run in runs]


def write_tables(outcomes: list[Outcome], out: Path, groups: Sequence[Group] = ()) -> str:
    """Write ``results.json`` and ``report.md``; gives back the latter."""
    write_results(outcomes, groups, out / 'results.json')
    report = markdown_report(outcomes, groups)
    (out / 'report.md').write_text(report)
    return report


def write_report(outcomes: list[Outcome], out: Path, command: str) -> str:
    """Judge the detections and write all three reports; gives back the Markdown one."""
    evaluations = {one.run: judge(one) for one in outcomes if one.result is not None}
    groups = group(evaluations.values())
    outcomes = [judged(one, evaluations[one.run]) if one.result else one for one in outcomes]
    (out / 'report.html').write_text(html_report(groups, outcomes, command))
    return write_tables(outcomes, out, groups)


def describe(outcome: Outcome) -> str:
    """One line on what became of a run."""
    if outcome.result is None:
        return f'FAILED {outcome.run.label}: {outcome.reason} (log: {outcome.run.work_dir})'
    state = 'done' if outcome.new else 'kept'
    return f'{state}   {outcome.run.label}: mAP {outcome.result["metrics"]["coco/bbox_mAP"]:.3f}'


def main(tools: Path, arguments: Sequence[str] | None = None) -> int:
    """Compare configs as the command line says; ``tools`` is where ``train.py`` is."""
    args = parse_args(arguments)
    runs = planned_runs(args)
    admit(runs, args.rerun_changed)
    with sigterm_as_exit():
        try:
            outcomes = carry_out(runs, tools, args.jobs, args.out)
        except KeyboardInterrupt:
            print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
            return 130
    command = shlex.join(['python', 'tools/compare.py', *(arguments or sys.argv[1:])])
    print(write_report(outcomes, args.out, command))
    print(f'Charts and pictures: {args.out / "report.html"}')
    return int(any(outcome.result is None for outcome in outcomes))
