"""The table of classifiers: its numbers are those of its runs, which are made once."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('torchmetrics')
pytest.importorskip('sklearn.datasets')

from helpers.tiny_runs import ROOT, run_quickly

TOOL = ROOT / 'tools/analysis/classification_table.py'
CONFIG = """
_base_ = '{base}'
train_cfg = dict(max_epochs=1, val_interval=1)
test_evaluator = dict(_delete_=True, type='ClassificationMetric')
optim_wrapper = dict(optimizer=dict(lr={lr}))
"""
NAMES = ('cross-entropy', 'ohem')
SEEDS, IMBALANCES = (0, 3), (2, 10)
RARE = ('seven', 'eight', 'nine')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two recipes, shortened, and what the tool makes of them."""
    folder = tmp_path_factory.mktemp('table')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IMBALANCED_DIGITS_ROOT', str(folder / 'data'))
        for name in NAMES:
            write(folder, name)
        yield folder


def write(folder: Path, name: str, lr: float = 0.004) -> None:
    base = ROOT / f'configs/classification/classifier_r18-w16_{name}_15e_imbalanced-digits.py'
    (folder / f'classifier_tiny_{name}_1e.py').write_text(CONFIG.format(base=base, lr=lr))


def printed(folder: Path, *, fails: bool = False) -> str:
    """What the tool prints."""
    log = folder / 'printed.txt'
    configs = [folder / f'classifier_tiny_{name}_1e.py' for name in NAMES]
    options = ['--imbalance', *IMBALANCES, '--seeds', *SEEDS, '--out', folder / 'runs']
    assert (run_quickly(TOOL, *configs, *options, log=log) != 0) == fails, log.read_text()
    return log.read_text()


def table(folder: Path) -> dict[str, str]:
    """Rows of the table that the tool prints."""
    return dict(re.findall(r'^\| ([\w-]+) \| (.+) \|$', printed(folder), re.MULTILINE))


def result_file(folder: Path, name: str, imbalance: int, seed: int) -> Path:
    return folder / f'runs/classifier_tiny_{name}_1e/1to{imbalance}/seed{seed}/result.json'


def cells(folder: Path, name: str, imbalance: int) -> list[str]:
    """Mean and standard deviation of macro F1, AUROC and recall of the rare, over two seeds."""
    columns = []
    for seed in SEEDS:
        metrics = json.loads(result_file(folder, name, imbalance, seed).read_text())['metrics']
        recall = [metrics[f'classification/recall/{digit}'] for digit in RARE]
        values = [metrics['classification/macro_f1'], metrics['classification/auroc']]
        columns.append([100 * value for value in (*values, math.fsum(recall) / 3)])
    return [
        f'{(a + b) / 2:.1f} ± {abs(a - b) / math.sqrt(2):.1f}'
        for a, b in zip(*columns, strict=True)
    ]


def test_the_table_sums_up_its_runs_and_goes_on_where_it_was(folder):
    rows = table(folder)
    title = rows.pop('recipe')
    assert title.startswith('1:2 macro F1 | 1:2 AUROC | 1:2 recall of the rare | 1:10 macro F1')
    assert rows == {
        name: ' | '.join(text for n in IMBALANCES for text in cells(folder, name, n))
        for name in NAMES
    }
    runs = [result_file(folder, *run) for run in product()]
    assert len({file.read_text() for file in runs}) == len(runs)  # no two runs are the same

    made = {file: file.stat().st_mtime_ns for file in runs}
    assert table(folder) == {'recipe': title, **rows}
    assert {file: file.stat().st_mtime_ns for file in runs} == made

    write(folder, 'ohem', lr=0.001)
    table(folder)
    assert {file for file in runs if file.stat().st_mtime_ns != made[file]} == {
        result_file(folder, *run) for run in product() if run[0] == 'ohem'
    }


def product():
    return [(name, n, seed) for name in NAMES for n in IMBALANCES for seed in SEEDS]


def test_a_run_that_fails_is_named_with_its_log(folder):
    write(folder, 'ohem', lr=-1.0)
    log = result_file(folder, 'ohem', IMBALANCES[0], SEEDS[0]).with_name('log.txt')
    assert f'classifier_tiny_ohem_1e.py failed: see {log}' in printed(folder, fails=True)
    assert 'Invalid learning rate' in log.read_text()
