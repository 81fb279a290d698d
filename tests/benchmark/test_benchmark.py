"""The benchmark: files, page, resumption, and the refusal of a peer that computes another thing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark import cases, cost, timing
from benchmark import cli as run
from benchmark import isolated as processes
from benchmark import peers as candidates
from benchmark import report as page

CASE = cases.Case('FocalLossX', cases.Size(64, 3))


@pytest.fixture(autouse=True)
def _eager(monkeypatch: Any) -> None:
    """Nothing here is about the compiler."""
    monkeypatch.setenv('MMFOCALX_FUSED', '0')


def with_peer(monkeypatch: Any, entries: Any) -> dict[str, Any]:
    def make(batch: cases.Batch) -> candidates.Value:
        return lambda x: entries(x, batch.scores()) / batch.avg_factor

    monkeypatch.setitem(candidates.PEERS, 'FocalLossX', {'peer': make})
    return timing.measure(CASE, rounds=3)['candidates']


def focal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = x.sigmoid()
    alpha = 0.25 * y + 0.75 * (1 - y)
    bce = F.binary_cross_entropy_with_logits(x, y, reduction='none')
    return (alpha * (y - p).abs() ** 2 * bce).sum()


def test_a_peer_that_agrees_is_timed(monkeypatch: Any) -> None:
    peer = with_peer(monkeypatch, focal)['peer']
    assert peer['compared'] == 'same function'
    assert len(peer['seconds']) == 3
    assert peer['ratio'] > 0


@pytest.mark.parametrize(
    'entries',
    [
        lambda x, y: 1.001 * focal(x, y),
        lambda x, y: focal(x, y).detach() + 0 * x.sum(),
        lambda x, y: focal(x, y) * float('nan'),
    ],
    ids=['value', 'gradient', 'nan'],
)
def test_a_wrong_peer_is_not_timed(monkeypatch: Any, entries: Any) -> None:
    peer = with_peer(monkeypatch, entries)['peer']
    assert peer['compared'] == 'not the same function'
    assert 'seconds' not in peer


def test_a_failing_peer_is_listed(monkeypatch: Any) -> None:
    def fails(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise RuntimeError('no bf16')

    assert with_peer(monkeypatch, fails)['peer'] == {
        'compared': 'fails',
        'reason': 'RuntimeError: no bf16',
    }


@pytest.mark.parametrize('form', cases.FORMS)
def test_the_forms_of_a_batch_mean_the_same(form: str) -> None:
    batch = cases.Case('FocalLossX', CASE.size, form=form).batch()
    scores = batch.scores()
    assert torch.equal((scores > 0).any(1), batch.foreground)
    rows = batch.foreground.nonzero()[:, 0]
    assert torch.equal(scores[rows].sum(1), batch.quality[rows])


def test_fit_of_a_line() -> None:
    entries = [10**6, 2 * 10**6, 8 * 10**6]
    assert cost.fit(entries, [3.0, 5.0, 17.0]) == pytest.approx((1.0, 2.0, 0.0), abs=1e-9)
    assert cost.fit(entries, [3.0, 5.0, 34.0])[2] > 0.1


def test_the_parts_add_up_to_our_time() -> None:
    def record(loss: str, rows: int, ours: float) -> dict[str, Any]:
        steps = {'ours': ours, 'floor': 2.0, 'floor, new memory': 3.5, 'copy': 1.0}
        timed = {name: {'median_ms': ms, 'page_faults': 7} for name, ms in steps.items()}
        about = dict(loss=loss, rows=rows, classes=80, dtype='fp32', form='labels')
        return {**about, 'candidates': timed}

    fitted = [record('FocalLossX', rows, 0.5 + rows / 10_000) for rows in (20_000, 50_000, 100_000)]
    _, _, text = cost.profile([*fitted, record('MALossX', 100_000, 10.5)])
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()[2:]]
    assert [line[0] for line in lines] == ['FocalLossX', 'MALossX']
    assert [line[2:] for line in lines] == [
        ['10.5', '2.00', '5.2', '0.50', '1.00', '1.50', '7.50', '7'],
        ['10.5', '2.00', '5.2', '-', '1.00', '1.50', '8.00', '7'],
    ]


def test_files_page_and_resumption(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run, 'in_new_process', lambda what, case: {'ours': 1000.0, 'peer': None})
    out, target = tmp_path / 'out', tmp_path / 'docs' / 'benchmark.md'
    arguments = ['--out', str(out), '--rounds', '3', '--no-first-step', '--sizes', '64x3', '16x1']
    arguments += ['--losses', 'FocalLossX', 'FocalLossX-softmax', 'EqualizedFocalLossX']
    run.main(arguments)
    files = sorted((out / 'time').iterdir())
    assert len(files) == 5  # softmax has no single class
    record = json.loads((out / 'time' / f'{CASE.name}.json').read_text())
    ours = record['candidates']['ours']
    for path in files:
        steps = json.loads(path.read_text())['candidates']
        assert steps['ours']['compared'] == steps['ours, eager']['compared'] == 'same function'
    assert ours['median_ms'] == pytest.approx(1e3 * np.median(ours['seconds']))
    assert record['machine']['versions']['torch'] == torch.__version__
    before = {path: path.read_bytes() for path in files}
    files[0].unlink()
    run.main(arguments)
    assert {path for path in files if path.read_bytes() == before[path]} == set(files[1:])
    run.main(['--out', str(out), '--report', str(target)])
    text = target.read_text()
    assert 'not measured on a GPU' in text
    assert 'FocalLossX-softmax' in text
    assert {path.name for path in (tmp_path / 'docs' / 'benchmark').iterdir()} == {
        'time.png',
        'memory.png',
        'losses.png',
    }


def test_no_measurements_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='--out must hold measurements'):
        run.main(['--out', str(tmp_path), '--report', str(tmp_path / 'page.md')])


def test_warm_first_steps_are_a_median() -> None:
    graphs = {'graphs': 1, 'graphs_after_other_sizes': 2}
    cold, *warm = ({'first_seconds': s, 'second_seconds': s / 100, **graphs} for s in (9, 1, 4, 2))
    section = '\n'.join(page._first_steps([{'loss': 'FocalLossX', 'cold': cold, 'warm': warm}]))
    assert '| FocalLossX | 9.0 | 2.0 [1.5, 3.0] | 0.020 | 1 | 2 |' in section
    assert 'median [quartiles] of 3;' in section


@pytest.mark.parametrize('text', ['100000', '0x80', 'ax3', '3x'])
def test_a_wrong_size(text: str) -> None:
    with pytest.raises(ValueError, match='a size must be like'):
        cases.Size.parse(text)


@pytest.mark.skipif(sys.platform != 'linux', reason='the peak of a process is read from Linux')
def test_the_pass_takes_memory_for_the_gradient_alone(monkeypatch: Any) -> None:
    """A part of a formula that falls out of the one loop is kept in memory for another."""
    monkeypatch.delenv('MMFOCALX_FUSED')
    case = cases.Case('MALossX', cases.Size(100_000, 80))
    peak = processes.in_new_process('memory', case, [candidates.OURS])[candidates.OURS]
    assert 1 <= peak / (4 * case.size.entries) < 1.15
