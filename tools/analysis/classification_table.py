"""Train and test classifiers at several imbalances over several seeds; print a table of the means.

    python tools/analysis/classification_table.py configs/classification/*_imbalanced-digits.py \
        --imbalance 10 100 --seeds 0 1 2 --out work_dirs/classification

Each run stays in --out; the same command goes on from there. tools/compare.py compares detectors:
its report rests on boxes and annotation files, which these runs do not have.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone, installed or not

from mmengine.config import Config
from mmengine.runner import Runner

from mmfocalx.compare.resolved_config import config_hash
from mmfocalx.files import read_json, write_json

NUMBERS = {'macro F1': 'macro_f1', 'AUROC': 'auroc', 'recall of the rare': 'recall_rare'}


def main() -> None:
    args = parse_args()
    table: dict[str, list[str]] = {recipe(config): [] for config in args.configs}
    for imbalance in args.imbalance:
        for config in args.configs:
            runs = [measured(config, imbalance, seed, args.out, args.common) for seed in args.seeds]
            for key in NUMBERS.values():
                values = [100 * run[key] for run in runs]
                spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
                table[recipe(config)].append(f'{fmean(values):.1f}{spread}')
            print(
                f'1:{imbalance} {recipe(config)}: {", ".join(table[recipe(config)][-3:])}',
                file=sys.stderr,
            )
    print('\n'.join(markdown(table, args.imbalance)))


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', type=Path, metavar='CONFIG')
    parser.add_argument(
        '--imbalance', nargs='+', type=int, default=[10, 100], help='N in 1:N (default: 10 100)'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--common', default='other', help='the class that is not rare (default: other)'
    )
    parser.add_argument('--out', type=Path, required=True, help='directory of the runs')
    return parser.parse_args(arguments)


def recipe(config: Path) -> str:
    """The part of a config's name that tells it from the others of its kind."""
    return config.stem.split('_')[2]


def measured(config: Path, imbalance: int, seed: int, out: Path, common: str) -> dict[str, float]:
    """The numbers of one run on the test split, trained unless that was done before."""
    os.environ['IMBALANCE'] = str(imbalance)
    settings = Config.fromfile(config, import_custom_modules=False)
    settings.randomness = dict(seed=seed)
    settings.work_dir = str(out / config.stem / f'1to{imbalance}' / f'seed{seed}')
    file = Path(settings.work_dir, 'result.json')
    made_of = config_hash(settings)
    result = read_json(file)
    if result is None or result['config_hash'] != made_of:
        child = multiprocessing.get_context('fork').Process(
            target=train_and_test, args=(settings, file, made_of)
        )
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(f'{config} failed: see {file.with_name("log.txt")}')
        result = read_json(file)
    metrics = {key.rpartition('classification/')[2]: v for key, v in result['metrics'].items()}
    rare = [
        value
        for key, value in metrics.items()
        if key.startswith('recall/') and key != f'recall/{common}'
    ]
    return {**metrics, 'recall_rare': fmean(rare)}


def train_and_test(settings: Config, file: Path, made_of: str) -> None:
    """In a process of its own, with its output in a log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(file.with_name('log.txt'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    runner = Runner.from_cfg(settings)
    runner.train()
    write_json(file, {'config_hash': made_of, 'metrics': runner.test()})


def markdown(table: dict[str, list[str]], imbalances: Sequence[int]) -> Iterator[str]:
    titles = [f'1:{imbalance} {number}' for imbalance in imbalances for number in NUMBERS]
    yield f'| recipe | {" | ".join(titles)} |'
    yield '|---' * (1 + len(titles)) + '|'
    for name, cells in table.items():
        yield f'| {name} | {" | ".join(cells)} |'


if __name__ == '__main__':
    main()
