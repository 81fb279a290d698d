"""What a comparison is going to do, and what is wrong with it, known before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, DictAction

from mmfocalx.compare.identity import checkpoints
from mmfocalx.compare.resolved_config import (
    annotation_files,
    read_config,
    split_data,
    training_length,
)
from mmfocalx.compare.runs import SPLITS, ChangedRunError, Outcome, Run
from mmfocalx.evaluation.annotations import contents, ground_truth

DESCRIPTION = """Train and test several configs over several seeds, and report what differs.

With --detections and --annotations, nothing is trained: existing files of detections are compared.

A comparison that was killed goes on where it stopped; a finished run is never repeated. Under
--out: report.html, report.md and results.json (for the test split report-test.html, report-test.md
and results-test.json), and for each run a directory runs/CONFIG/seedK.

The exit code is 0 if every run and every part of the report is there, 1 if not.
"""


class NamedConfig(NamedTuple):
    """A config file, and the name that its runs are listed under."""

    name: str
    path: Path


def _named_config(text: str) -> NamedConfig:
    name, _, file = text.partition('=')
    names_a_folder = name not in ('', '..') and Path(name).name == name
    if not file or not names_a_folder or Path(text).is_file():
        return NamedConfig(Path(text).stem, Path(text))
    return NamedConfig(name, Path(file))


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'configs',
        nargs='*',
        type=_named_config,
        metavar='CONFIG',
        help='config files; the first is the baseline. NAME=FILE gives one another name than that '
        'of its file',
    )
    parser.add_argument(
        '--detections',
        nargs='+',
        type=Path,
        metavar='FILE',
        help='compare these lists of detections in COCO format, such as CocoMetric writes with '
        'outfile_prefix; the first is the baseline',
    )
    parser.add_argument('--annotations', type=Path, help='COCO annotations of their images')
    parser.add_argument(
        '--images', type=Path, help='folder of the images, to show those where the files differ'
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
    if args.detections or args.annotations or args.images:
        _check_files(parser, args)
        return args
    if not args.configs:
        parser.error('give config files, or --detections and --annotations')
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, but got {args.jobs}')
    for config in args.configs:
        if not config.path.is_file():
            parser.error(f'no such config file: {config.path}')
    if twice := _twice(args.seeds):
        parser.error(f'seed given twice: {", ".join(twice)}')
    if twice := _twice([config.name for config in args.configs]):
        paths = [str(config.path) for config in args.configs if config.name == twice[0]]
        parser.error(
            f'config name given twice: {", ".join(twice)}. Give each a name of its own: '
            f'first={paths[0]} second={paths[1]}'
        )
    return args


def _twice(given: Sequence[object]) -> list[str]:
    return sorted({str(value) for value in given if given.count(value) > 1})


def _check_files(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what makes no sense for files of detections."""
    if not args.detections or not args.annotations:
        parser.error('--detections and --annotations (and --images) belong together')
    if args.configs:
        parser.error(f'give config files or --detections, not both: {args.configs[0].path}')
    for option in ('seeds', 'split', 'jobs', 'rerun_changed', 'cfg_options'):
        if getattr(args, option) != parser.get_default(option):
            name = option.replace('_', '-')
            parser.error(f'--{name} is for trainings: with --detections nothing is trained')
    if twice := _twice(args.detections):
        parser.error(f'file of detections given twice: {", ".join(twice)}')


def planned_runs(args: argparse.Namespace) -> list[Run]:
    """All configs with the first seed, then all with the next: early results compare.

    Each config is read once, so that all its seeds are trained with the same.
    """
    contents: dict[Path, Config] = {}
    for _, path in args.configs:
        with suppress(Exception):  # what is wrong with it is said by `refused`
            contents[path] = read_config(path)
    return [
        Run(
            name=name,
            seed=seed,
            config=path,
            work_dir=args.out / 'runs' / name / f'seed{seed}',
            options=args.cfg_options,
            split=args.split,
            content=contents.get(path),
        )
        for seed in args.seeds
        for name, path in args.configs
    ]


def refused(plan: Sequence[Run]) -> list[Outcome]:
    """The runs that cannot work, with the reasons; those of other configs can go on."""
    reasons: dict[str, str] = {}
    outcomes = []
    for run in plan:
        if run.name not in reasons:
            try:
                reasons[run.name] = trouble(run)
            except Exception as error:  # in a config anything can be wrong
                kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
                reasons[run.name] = f'{kind}{error}'
        if reasons[run.name]:
            outcomes.append(Outcome(run, None, f'not started: {reasons[run.name]}'))
    return outcomes


def trouble(run: Run) -> str:
    """Why a run cannot work, or ''.

    Raises:
        Exception: Of any type, if the config cannot be read, or lacks what every config has.
    """
    settings = run.settings
    data = split_data(settings, run.split)
    training_length(settings)
    if 'checkpoint' in (hooks := settings.get('default_hooks') or {}) and not hooks['checkpoint']:
        return f'default_hooks.checkpoint of {run.config} is off: nothing would be left to test'
    if not Path(data.annotations).is_file():
        return _missing(f'annotations that the {run.split} split is judged by', data.annotations)
    names = ground_truth(data.annotations).class_names
    if lacking := [name for name in data.classes if name not in names]:
        return f'{data.annotations} has no {lacking}, which are among the classes of {run.config}'
    in_order = tuple(name for name in names if name in data.classes)
    if data.classes and in_order != data.classes:
        return (
            f'the classes of {run.config} are {data.classes}, and {data.annotations} has them in '
            f'another order: write metainfo=dict(classes={in_order})'
        )
    objects = contents(Path(data.annotations))
    if objects.oddities and not any(objects.counts.values()):
        return f'{data.annotations} has no object to find: {"; ".join(objects.oddities)}'
    if not run.trained:
        for what, files in (
            ('training annotations', annotation_files(settings, 'train')),
            ('checkpoint that it starts from', checkpoints(settings.to_dict())),
        ):
            for path in files:
                if not path.exists():
                    return _missing(what, str(path))
    return ''


def _missing(what: str, path: str) -> str:
    return f'{what}: no file {path} (a relative path in a config starts from {Path.cwd()})'


def settle_changed_runs(runs: Sequence[Run], rerun_changed: bool) -> None:
    """Stop before anything is trained if a run is not what it was started with.

    A run that failed and left nothing but logs is set aside without being asked for.

    Args:
        runs: The runs.
        rerun_changed: Set the old ones aside instead.

    Raises:
        SystemExit: If something has changed, or is at work in a folder that is to be set aside.
    """
    changed = {}
    for run in runs:
        try:
            run.check_unchanged()
        except ChangedRunError as error:
            changed[run] = str(error)
    precious = [reason for run, reason in changed.items() if not run.left_nothing]
    if precious and not rerun_changed:
        raise SystemExit(
            '\n'.join(precious) + '\nGive another --out, or --rerun-changed to train these again.'
        )
    for run in changed:
        try:
            print(f'{run.label}: changed; the old run is now in {run.set_aside()}')
        except OSError as error:
            raise SystemExit(f'{run.label} cannot be set aside: {error}') from None
