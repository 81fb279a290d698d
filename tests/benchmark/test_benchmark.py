"""The benchmark: cases, times, records, pages, and the refusal of a peer of another function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark import (
    cases,
    cli,
    cost,
    isolated,
    machine,
    peers,
    records,
    report,
    sections,
    steps,
    timing,
)

ROOT = Path(__file__).resolve().parents[2]
CASE = cases.Case('FocalLossX', cases.Size(64, 3))
KINDS_MEASURED_HERE = ['--only', 'time', 'memory']


@pytest.fixture(autouse=True)
def _eager(monkeypatch: Any) -> None:
    """Nothing here is about the compiler."""
    monkeypatch.setenv('MMFOCALX_FUSED', '0')


def with_peer(monkeypatch: Any, entries: Any) -> dict[str, Any]:
    monkeypatch.setattr(peers, 'PEERS', [peers.Peer('it', CASE.loss, lambda reduction: entries)])
    monkeypatch.setattr(steps, 'main_losses', lambda: [CASE.loss])
    return timing.measure(CASE, rounds=3)['steps']['it']


def focal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = x.sigmoid()
    alpha = 0.25 * y + 0.75 * (1 - y)
    bce = F.binary_cross_entropy_with_logits(x, y, reduction='none')
    return (alpha * (y - p).abs() ** 2 * bce).sum()


def test_a_peer_that_agrees_is_timed(monkeypatch: Any) -> None:
    peer = with_peer(monkeypatch, focal)
    assert peer['compared'] == 'same function'
    assert len(peer['samples']) == 3
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
    peer = with_peer(monkeypatch, entries)
    assert peer['compared'] == 'not the same function'
    assert 'samples' not in peer


def test_one_wrong_gradient_of_several_is_enough() -> None:
    right, wrong = torch.ones(2), torch.tensor([1.0, float('nan')])
    for gradients in ((right, wrong), (wrong, right)):
        got = timing.agreement((right[0], *gradients), (right[0], right, right), 1e-5)
        assert got['compared'] == 'not the same function'


def test_a_failing_peer_is_listed(monkeypatch: Any) -> None:
    def fails(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise RuntimeError('no bf16')

    assert with_peer(monkeypatch, fails) == {
        'compared': 'fails',
        'reason': 'RuntimeError: no bf16',
    }


@pytest.mark.parametrize('loss', cases.loss_names())
def test_every_loss_is_measured_and_agrees_with_its_peers(loss: str) -> None:
    measured = timing.measure(cases.Case(loss, CASE.size), rounds=1)
    compared = {name: step['compared'] for name, step in measured['steps'].items()}
    names = [peer.library for peer in peers.peers_of(loss) if peer.library in compared]
    for name in (steps.OURS, steps.EAGER, *names):
        assert compared.pop(name) == 'same function'
    assert set(compared.values()) == {'yardstick'}
    assert set(measured['missing']) <= {'torchvision', 'torchvision, compiled', 'kornia'}


def test_a_state_starts_anew_in_every_step() -> None:
    """The exponents of equalized focal loss follow the gradients that it has counted."""
    case = cases.Case('EqualizedFocalLossX', CASE.size)
    ours = steps.steps_of(case, case.batch())[0][0]
    values = []
    for _ in range(3):
        ours.restore()
        values.append(ours.run()[0].item())
    assert len(set(values)) == 1
    assert ours.run()[0].item() != values[0]


@pytest.mark.parametrize('form', cases.FORMS)
def test_the_forms_of_a_batch_mean_the_same(form: str) -> None:
    batch = cases.Case('FocalLossX', CASE.size, form=form).batch()
    scores = batch.target(('dense',))
    assert torch.equal((scores > 0).any(1), batch.foreground)
    rows = batch.foreground.nonzero()[:, 0]
    assert torch.equal(scores[rows].sum(1), batch.quality[rows])
    if form != 'dense':
        labels, quality = batch.target(('tuple',)) if form == 'labels' else batch.target()
        assert torch.equal(scores[rows, labels[rows]], quality[rows])


def test_fit_of_a_line() -> None:
    entries = [10**6, 2 * 10**6, 8 * 10**6]
    assert cost.fit(entries, [3.0, 5.0, 17.0]) == pytest.approx((1.0, 2.0, 0.0), abs=1e-9)
    assert cost.fit(entries, [3.0, 5.0, 34.0])[2] > 0.1


def test_the_parts_add_up_to_our_time() -> None:
    def record(loss: str, rows: int, ours: float) -> dict[str, Any]:
        times = {'ours': ours, 'floor': 2.0, 'floor, new memory': 3.5, 'copy': 1.0}
        timed = {name: {'median_ms': ms, 'page_faults': 7} for name, ms in times.items()}
        return {**cases.Case(loss, cases.Size(rows, 80)).record, 'steps': timed}

    fitted = [record('FocalLossX', rows, 0.5 + rows / 10_000) for rows in (20_000, 50_000, 100_000)]
    _, _, text = cost.parts_of_time([*fitted, record('MALossX', 100_000, 10.5)])
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()[2:]]
    assert [line[0] for line in lines] == ['FocalLossX', 'MALossX']
    assert [line[2:] for line in lines] == [
        ['10.5', '2.00', '5.2', '0.50', '1.00', '1.50', '7.50', '7'],
        ['10.5', '2.00', '5.2', '-', '1.00', '1.50', '8.00', '7'],
    ]


def test_files_record_pages_and_resumption(tmp_path: Path, monkeypatch: Any) -> None:
    def peaks(job: str, **arguments: Any) -> dict[str, Any]:
        assert job == 'memory'
        return {'ours': 1000.0, 'it': None}

    monkeypatch.setattr(isolated, 'in_new_process', peaks)
    out, page = tmp_path / 'out', tmp_path / 'docs' / 'benchmark.md'
    arguments = ['--out', str(out), '--rounds', '3', '--sizes', '64x3', '16x1', '--losses']
    arguments += ['FocalLossX', 'FocalLossX-softmax', 'EqualizedFocalLossX', *KINDS_MEASURED_HERE]
    cli.main(arguments)
    (folder,) = out.iterdir()
    files = sorted((folder / 'time').iterdir())
    assert len(files) == 5  # softmax has no single class
    measured = json.loads((folder / 'time' / f'{CASE.name}.json').read_text())
    ours = measured['steps']['ours']
    assert ours['median_ms'] == pytest.approx(1e3 * np.median(ours['samples']))
    assert measured['machine']['versions']['torch'] in torch.__version__
    before = {path: path.read_bytes() for path in files}
    files[0].unlink()
    cli.main(arguments)
    assert {path for path in files if path.read_bytes() == before[path]} == set(files[1:])

    cli.main(['--out', str(out), '--report', str(page)])
    beside = page.with_suffix('')
    assert {path.name for path in beside.rglob('*') if path.is_file()} == {
        f'{folder.name}.md', 'record.json', 'time.png', 'memory.png', 'losses.png',
    }  # fmt: skip
    of_machine = (beside / f'{folder.name}.md').read_text()
    assert 'FocalLossX-softmax' in of_machine
    kept = records.read_records(beside)[folder.name]
    kept_ours = next(
        one['steps']['ours'] for one in kept['time'] if cases.Case.of_record(one) == CASE
    )
    assert kept_ours['median_ms'] == pytest.approx(ours['median_ms'], rel=1e-3)
    assert 'samples' not in kept_ours

    (beside / folder.name / 'notes.md').write_text('Seen by hand.')
    cli.main(['--report', str(page)])
    assert 'Seen by hand.' in page.read_text()
    assert (beside / f'{folder.name}.md').read_text() == of_machine


def test_the_machine_at_hand_is_named(tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / 'benchmark.md'
    cli.main(['--which', '--report', str(page)])
    said = capsys.readouterr().out
    assert torch.backends.cpu.get_cpu_capability() in said
    assert 'has no record' in said
    name = machine.record_name(machine.machine_at_hand())
    records.write_record(
        page.with_suffix('') / name / 'record.json', {'machines': [machine.machine_at_hand()]}
    )
    cli.main(['--which', '--report', str(page)])
    assert f'Its record is {name}.' in capsys.readouterr().out


def test_no_measurements_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='--out must hold measurements'):
        cli.main(['--out', str(tmp_path), '--report', str(tmp_path / 'page.md')])


def test_the_pages_are_what_their_records_give() -> None:
    page = ROOT / 'docs' / 'benchmark.md'
    written = report.pages(page)
    assert set(written) == {page, *page.with_suffix('').glob('*.md')}
    for path, text in written.items():
        assert path.read_text() == text, f'{path} is stale: tools/benchmark/losses.py --report'


def test_warm_first_steps_are_a_median() -> None:
    warm = [{'first_seconds': s, 'second_seconds': s / 100} for s in (1.0, 4.0, 2.0)]
    cold = {'first_seconds': 9, 'graphs': 1, 'graphs_after_other_sizes': 2}
    one = {'loss': 'FocalLossX', 'cold': cold, 'warm': isolated.warm_summary(warm)}
    section = '\n'.join(sections.first_step([one]))
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
    peak = isolated.in_new_process('memory', record=case.record, names=[steps.OURS])[steps.OURS]
    assert 1 <= peak / (4 * case.size.entries) < 1.15


def test_a_machine_with_torch_and_mmengine_alone(tmp_path: Path) -> None:
    """Whoever is missing is named."""
    absent = ('mmdet', 'mmcv', 'matplotlib', 'kornia', 'fvcore', 'monai', 'timm', 'scipy')
    for name in (*absent, 'imbalanced_losses', 'torchvision'):
        (tmp_path / 'absent' / name).mkdir(parents=True)
        (tmp_path / 'absent' / name / '__init__.py').write_text(
            f'raise ImportError("no {name} here")'
        )
    out = tmp_path / 'out'
    command = [sys.executable, 'tools/benchmark/losses.py', '--out', str(out), '--rounds', '1']
    command += ['--sizes', '64x3', '--losses', 'FocalLossX', '--only', 'time', 'heads', '--quick']
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'absent')}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (folder,) = out.iterdir()
    times = json.loads(next((folder / 'time').iterdir()).read_text())
    assert set(times['missing']) == {peer.library for peer in peers.peers_of('FocalLossX')}
    assert times['steps']['ours']['compared'] == 'same function'
    for path in (folder / 'heads').iterdir():
        head = json.loads(path.read_text())
        assert head['steps'] == {}
        assert all('no mm' in reason for reason in head['missing'].values())
