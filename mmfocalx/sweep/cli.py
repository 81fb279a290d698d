"""The command line of a sweep: plan, work, report."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
from mmengine.config import Config
from optuna.exceptions import ExperimentalWarning

from mmfocalx.compare.child_process import sigterm_as_exit
from mmfocalx.compare.identity import testing_identity
from mmfocalx.compare.plan import trouble
from mmfocalx.compare.resolved_config import read_config, training_length
from mmfocalx.reporting.console import write_line_by_line
from mmfocalx.reporting.wording import listed
from mmfocalx.sweep.arguments import parse_args
from mmfocalx.sweep.findings import Findings
from mmfocalx.sweep.parameters import parse
from mmfocalx.sweep.progress import Progress, reached, setting
from mmfocalx.sweep.report import write_numbers, write_page
from mmfocalx.sweep.samplers import sampler
from mmfocalx.sweep.slots import Slot
from mmfocalx.sweep.space import Space, default_search
from mmfocalx.sweep.storage import Watch, journal_path, open_storage, storage_url
from mmfocalx.sweep.study import claim, open_study, pruner
from mmfocalx.sweep.worker import HopelessError, Plan, Worker

DEFAULT_TRIALS = 20
VAL_INTERVAL = 'train_cfg.val_interval'


def main(tools: Path, arguments: Sequence[str] | None = None) -> int:
    """Sweep as the command line says; ``tools`` is where ``train.py`` is.

    Returns:
        0 if every trial has ended and the report is whole, 1 if not, 130 after Ctrl-C.
    """
    args = parse_args(arguments)
    write_line_by_line()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the bar says it
    warnings.simplefilter('ignore', ExperimentalWarning)
    command = shlex.join(['python', 'tools/sweep.py', *(arguments or sys.argv[1:])])
    plan = planned(args)
    url = storage_url(args.storage or str(args.out / 'study.journal'))
    study = joined(args, plan, url)
    watch = Watch(study, journal_path(url), args.heartbeat)

    def findings() -> Findings:
        return Findings(study, plan, worker.slots(), url, command)

    def ended(slot: Slot) -> None:
        progress.line(slot)
        write_numbers(findings())

    with sigterm_as_exit():
        worker = Worker(study, plan, watch, tools, min(args.heartbeat, 5))
        worker.queue_lost(failed=args.retry_failed)
        progress = Progress(worker.slots(), plan)
        reason = ''
        try:
            worker.work(progress.show, ended)
        except KeyboardInterrupt:
            worker.queue_lost()
            progress.close()
            print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
            return 130
        except HopelessError as error:
            reason = str(error)
        progress.close()
    last = findings()
    whole = [write_numbers(last), write_page(last)]
    print(summary(last))
    if reason:
        print(f'Given up: {reason}', file=sys.stderr)
    return 0 if all(whole) and not reason and not last.with_state('failed') else 1


def planned(args: argparse.Namespace) -> Plan:
    """What the trials have in common.

    Raises:
        SystemExit: If they cannot work; it says why.
    """
    try:
        content = read_config(args.config)
        config = Config(content.to_dict(), filename=str(args.config))
        options = dict(args.cfg_options)
        config.merge_from_dict(options)
        options |= _val_interval(args, config)
        texts = args.search or default_search(config)
        space = Space(config, tuple(parse(text) for text in texts))
        points = space.grid() if args.sampler == 'grid' else []
        trials = args.trials or len(points) or DEFAULT_TRIALS
        if points and trials > len(points):
            raise ValueError(f'--trials {trials}: the grid has {len(points)} points only')
        plan = Plan(args.config, content, options, space, tuple(args.seeds), args.metric,
                    trials, args.out)  # fmt: skip
        found = trouble(plan.run(0, plan.seeds[0], {}))
    except Exception as error:  # in a config anything can be wrong
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        raise SystemExit(f'{kind}{error}') from error
    if found:
        raise SystemExit(f'not started: {found}')
    return plan


def _val_interval(args: argparse.Namespace, config: Config) -> dict[str, int]:
    """The options that let a training measure its mAP before its end."""
    if args.val_interval:
        return {VAL_INTERVAL: args.val_interval}
    if args.pruner == 'none':
        return {}
    length, begin = training_length(config), config.train_cfg.get('val_begin', 1)
    if begin >= length:
        late = f'train_cfg.val_begin={begin} of {length}'
        print(f'{late}: no trial measures its mAP in time to prune it')
        return {}
    if config.train_cfg.get('val_interval', 1) < length:
        return {}
    interval = max(1, length // 4)
    print(f'{VAL_INTERVAL} is set to {interval}, so that trials can be pruned (--val-interval)')
    return {VAL_INTERVAL: interval}


def joined(args: argparse.Namespace, plan: Plan, url: str) -> optuna.Study:
    """The study that the command line names, made if missing.

    Raises:
        SystemExit: If it cannot be opened, or is of something else.
    """
    base = plan.run(0, plan.seeds[0], {})
    settings = {
        **{f'--search {name}': text for name, text in plan.space.texts.items()},
        '--metric': plan.metric,
        '--seeds': ' '.join(map(str, plan.seeds)),
        '--sampler': args.sampler,
        '--sampler-seed': str(args.sampler_seed),
        '--pruner': args.pruner,
        '--heartbeat': str(args.heartbeat),
    }
    points = plan.space.grid() if args.sampler == 'grid' else []
    drawn = sampler(args.sampler, args.sampler_seed, points, plan.space.default())
    try:
        study = open_study(
            open_storage(url, args.heartbeat),
            args.study or args.config.stem,
            base.identity | testing_identity(base.settings, base.split),
            settings,
            sampler=drawn,
            pruner=pruner(args.pruner),
        )
        claim(args.out, study)
    except Exception as error:  # of a storage anything can come
        kind = '' if isinstance(error, ValueError) else f'--storage {url} cannot be used: '
        raise SystemExit(f'{kind}{error}') from error
    return study


def summary(findings: Findings) -> str:
    """What was found, in a few lines."""
    plan, best = findings.plan, findings.best
    lines = []
    if best is not None:
        gain = ''
        if findings.default:
            gain = f', {100 * findings.gain:+.1f} points over the config as it is, with seed '
            gain += listed([*map(str, plan.seeds)])
        lines.append(
            f'Best: trial {best.index}, {plan.metric} {reached(best, 2)}{gain} ({setting(best)})'
        )
        if findings.fruitless:
            lines.append('No trial is better than the config as it is.')
        else:
            lines.append(f'Compare it on other seeds: {findings.compare_command}')
        if plan.options:
            lines.append(
                f'{plan.out / "best.py"} says what all trials were trained with, too: {plan.given}'
            )
    counts = {state: len(findings.with_state(state)) for state in ('complete', 'pruned', 'failed')}
    lines.append(', '.join(f'{number} {state}' for state, number in counts.items()))
    lines += [f'Missing in the report: {gap.part} ({gap.reason})' for gap in findings.gaps]
    lines.append(f'Report: {plan.out / "report.html"}')
    return '\n'.join(lines)
