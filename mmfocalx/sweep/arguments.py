"""The command line of a sweep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from mmfocalx.compare.logs import HEADLINE
from mmfocalx.sweep.keys import SHORT
from mmfocalx.sweep.parameters import EXPECTED
from mmfocalx.sweep.samplers import SAMPLERS
from mmfocalx.sweep.study import PRUNERS

DESCRIPTION = f"""Search for the setting of a config with the largest mAP on the val split.

What is varied is said by --search, each as {EXPECTED}, where KEY is one
that --cfg-options takes, or a short name: {', '.join(SHORT)}.
Without --search: gamma and alpha, where the loss takes them, and the learning rate.

  python tools/sweep.py CONFIG --trials 24 --out work_dirs/sweep \\
      --search gamma=float:0.5:4 alpha=float:0.1:0.9 lr=log:1e-4:1e-2 \\
               loss=choice:FocalLossX,VarifocalLossX model.bbox_head.stacked_convs=int:1:4

The first trial is the config as it is. The same command, on this machine or on others that reach
the storage, joins the study; --trials is the number of all workers together. A sweep that was
killed goes on with the same command: a trial whose worker is lost is resumed, and counts once.

Under --out: best.py (a config for tools/train.py), report.html, results.json and trials/.
The exit code is 0 if every trial has ended and the report is whole, 1 if not, 130 after Ctrl-C.
"""


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', type=Path, metavar='CONFIG', help='config file')
    add('--out', type=Path, required=True, help='folder of trials and report')
    add(
        '--storage',
        metavar='URL',
        help='where the study is: the path of a SQLite file (.db, .sqlite, .sqlite3) or of a '
        'journal (any other ending; safe on network file systems), or the URL of a database, '
        'such as postgresql://... (default: OUT/study.journal)',
    )
    add('--study', metavar='NAME', help="name of the study (default: the config's)")
    add(
        '--trials',
        type=int,
        metavar='K',
        help='trials of all workers together (default: 20, or every point of a grid)',
    )
    add(
        '--search',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUES',
        help='what is varied, and over which values; see above',
    )
    add('--sampler', choices=SAMPLERS, default='tpe', help='how values are drawn (default: tpe)')
    add('--sampler-seed', type=int, default=0, metavar='N', help='seed of the draws (default: 0)')
    add(
        '--pruner',
        choices=PRUNERS,
        default='median',
        help='which trainings are ended early, by their mAP while training: those below the median '
        'of the others, or all but the best by successive halving (default: median)',
    )
    add(
        '--val-interval',
        type=int,
        metavar='N',
        help='epochs (iterations, without epochs) between two measurements of that mAP (default: '
        "the config's, or a quarter of the training where that is its whole length)",
    )
    add(
        '--seeds',
        nargs='+',
        type=int,
        default=[0],
        help='random seeds each trial is trained with; its value is the mean (default: 0)',
    )
    add('--metric', choices=[*HEADLINE], default='mAP', help='what is to be large (default: mAP)')
    add(
        '--retry-failed',
        action='store_true',
        help='try trials again that ended with an error, beside those whose worker was lost',
    )
    add(
        '--heartbeat',
        type=int,
        default=20,
        metavar='SECONDS',
        help='a worker that is silent for three times as long is taken for lost (default: 20)',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help="settings that override the config's in every trial",
    )
    args = parser.parse_args(arguments)
    for name in ('trials', 'heartbeat', 'val_interval'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, but got {value}')
    if not args.config.is_file():
        parser.error(f'no such config file: {args.config}')
    if len(set(args.seeds)) < len(args.seeds):
        parser.error(f'--seeds: one is given twice: {args.seeds}')
    return args
