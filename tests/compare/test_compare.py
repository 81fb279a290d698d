"""The runner behind `tools/compare.py`: it goes on where it was killed and repeats nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from helpers import stub_tools, tiny_detection
from helpers.forkserver import FORKSERVER
from mmfocalx.compare import report as report_writer
from mmfocalx.compare.child_process import locked
from mmfocalx.compare.cli import carry_out, main
from mmfocalx.compare.execution import execute
from mmfocalx.compare.report import Report
from mmfocalx.compare.runs import ChangedRunError, Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detection.write_dataset(tmp_path_factory.mktemp('set') / 'data')


def a_run(tmp_path: Path, data: Path, name: str = 'a', seed: int = 0, **options: str) -> Run:
    config = tmp_path / f'{name}.py'
    if not config.exists():
        stub_tools.write_config(config, data, **options)
    return Run(name, seed, config, tmp_path / 'out' / name / f'seed{seed}')


def starts(run: Run) -> list[str]:
    return (run.work_dir / 'starts.txt').read_text().splitlines()


def test_finished_run_is_kept_and_never_repeated(tmp_path: Path, data: Path, tools: Path) -> None:
    run = a_run(tmp_path, data)
    (first,) = execute([run], tools)
    assert first.new, first.reason
    assert first.result['iterations'] == 50
    assert set(first.result['metrics']) == {f'coco/bbox_mAP{s}' for s in ('', '_50', '_75')}
    (second,) = execute([run], tools)
    assert not second.new
    assert second.result == first.result
    assert len(starts(run)) == 1


def test_failed_run_does_not_stop_the_rest(tmp_path: Path, data: Path, tools: Path) -> None:
    runs = [
        a_run(tmp_path, data, 'broken', mood='broken'),
        a_run(tmp_path, data, 'killed', mood='killed'),
        a_run(tmp_path, data, 'fine'),
    ]
    reasons = {outcome.run.name: outcome.reason for outcome in execute(runs, tools)}
    assert reasons == {
        'broken': 'training: mmengine.FancyError: no such loss',
        'killed': 'training: killed by signal 9',
        'fine': '',
    }
    assert runs[0].finished() is None


def test_failed_run_is_tried_again(tmp_path: Path, data: Path, tools: Path) -> None:
    run = a_run(tmp_path, data)
    train = tools / 'train.py'
    working = train.read_text()
    train.write_text('raise OSError("disk full")')
    (outcome,) = execute([run], tools)
    assert outcome.reason == 'training: OSError: disk full'
    train.write_text(working)
    (outcome,) = execute([run], tools)
    assert outcome.result is not None


def test_other_split_is_tested_without_training_again(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    run = a_run(tmp_path, data)
    other = Run(run.name, run.seed, run.config, run.work_dir, split='test')
    outcomes = list(execute([run, other], tools))
    assert [one.result['split'] for one in outcomes] == ['val', 'test']
    assert len(starts(run)) == 1
    assert run.finished() is not None


def test_split_without_annotations_names_the_config(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    run = a_run(tmp_path, data)
    text = run.config.read_text().replace("val_evaluator = dict(type='CocoMetric'", 'x = dict(a=1')
    run.config.write_text(text)
    (outcome,) = execute([run], tools)
    assert 'val_evaluator' in outcome.reason
    assert 'CocoMetric' in outcome.reason


def test_changed_config_is_not_mixed_in(tmp_path: Path, data: Path, tools: Path) -> None:
    run = a_run(tmp_path, data)
    (first,) = execute([run], tools)
    stub_tools.write_config(run.config, data, step=0.2)
    run = replace(run)  # read again, as by the next call
    with pytest.raises(ChangedRunError, match=r'a\.py'):
        run.check_unchanged()
    (refused,) = execute([run], tools)
    assert refused.result is None
    kept = run.set_aside()
    (again,) = execute([run], tools)
    assert again.result['metrics'] != first.result['metrics']
    assert json.loads((kept / 'val' / 'result.json').read_text()) == first.result


def test_comment_is_no_change_and_an_option_is(tmp_path: Path, data: Path, tools: Path) -> None:
    run = a_run(tmp_path, data)
    list(execute([run], tools))
    run.config.write_text('# a comment\n' + run.config.read_text())
    replace(run).check_unchanged()
    with pytest.raises(ChangedRunError):
        Run(run.name, 0, run.config, run.work_dir, {'train_cfg.max_epochs': 6}).check_unchanged()


def test_two_jobs_run_at_once_and_share_the_threads(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    runs = [a_run(tmp_path, data, seed=seed) for seed in range(3)]
    most = 0

    def watch(active: dict[Run, float]) -> None:
        nonlocal most
        most = max(most, len(active))

    outcomes = list(execute(runs, tools, jobs=2, on_progress=watch))
    assert [one.reason for one in outcomes] == ['', '', '']
    assert most == 2
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert {line.split()[1] for run in runs for line in starts(run)} == {str(threads)}


def test_next_run_may_depend_on_the_last(tmp_path: Path, data: Path, tools: Path) -> None:
    seen: list[float] = []

    def choose() -> Iterator[Run]:
        for seed in range(3):
            assert len(seen) == seed
            yield a_run(tmp_path, data, seed=seed)

    for outcome in execute(choose(), tools):
        seen.append(outcome.result['metrics']['coco/bbox_mAP'])
    assert len(set(seen)) == 3


def test_detections_that_cannot_be_judged_stop_no_training(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_writer, 'judge', Mock(side_effect=OSError('no space')))
    runs = [a_run(tmp_path, data, seed=seed) for seed in range(2)]
    report = Report(runs, tmp_path / 'out', 'command')
    carry_out(runs, report, tools, 1)
    assert not report.write()
    results = json.loads(report.numbers.read_text())
    assert [run['seed'] for run in results['runs']] == [0, 1]
    assert [run['reason'] for run in results['failed']] == ['not judged: OSError: no space'] * 2


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(BlockingIOError, match='in use'),
        locked(tmp_path, patience=0.1),
    ):
        pass


def compare_in_this_process(tools: Path, arguments: list[str], log: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open('w') as sys.stdout:
        sys.stderr = sys.stdout
        sys.exit(main(tools, arguments))


def compare(tmp_path: Path, tools: Path, out: str, *more: str):
    """A comparison of a.py and b.py with two seeds, under way."""
    configs = [str(tmp_path / f'{name}.py') for name in 'ab']
    arguments = [*configs, '--seeds', '0', '1', '--out', str(tmp_path / out), *more]
    process = FORKSERVER.Process(
        target=compare_in_this_process, args=(tools, arguments, tmp_path / f'{out}.log')
    )
    process.start()
    return process


def exit_code(process, tmp_path: Path, out: str) -> tuple[int, str]:
    process.join(timeout=600)
    return process.exitcode, (tmp_path / f'{out}.log').read_text()


def wait_for(tmp_path: Path, out: str, epochs: int) -> None:
    """Until the runs have gone through so many epochs in all."""
    deadline = time.monotonic() + 600
    while epochs_in(tmp_path, out) < epochs:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def epochs_in(tmp_path: Path, out: str) -> int:
    histories = (tmp_path / out).glob('runs/*/*/history.txt')
    return sum(len(path.read_text().splitlines()) for path in histories)


def final_numbers(tmp_path: Path, out: str) -> list:
    results = json.loads((tmp_path / out / 'results.json').read_text())
    assert results['failed'] == []
    return [(one['name'], one['seed'], one['metrics'], one['ap']) for one in results['runs']]


def test_killed_three_times_the_table_equals_an_uninterrupted_one(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    for name, step in (('a', 0.1), ('b', 0.3)):
        stub_tools.write_config(tmp_path / f'{name}.py', data, step=step)
    code, output = exit_code(compare(tmp_path, tools, 'whole'), tmp_path, 'whole')
    assert code == 0, output

    seed = random.randrange(10**6)
    points = sorted(random.Random(seed).sample(range(1, 20), 3))
    for point in points:
        process = compare(tmp_path, tools, 'killed')
        wait_for(tmp_path, 'killed', point)
        process.kill()
        process.join()
        time.sleep(0.3)
        before = epochs_in(tmp_path, 'killed')
        time.sleep(0.4)
        assert epochs_in(tmp_path, 'killed') == before, 'a training outlived its comparison'
    code, output = exit_code(compare(tmp_path, tools, 'killed'), tmp_path, 'killed')
    assert code == 0, output
    assert final_numbers(tmp_path, 'killed') == final_numbers(tmp_path, 'whole'), (seed, points)
    for out in ('killed', 'whole'):
        report = (tmp_path / out / 'report.html').read_text()
        assert 'src="data:image/svg+xml' in report


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_interrupt_ends_the_children(
    tmp_path: Path, data: Path, tools: Path, number: signal.Signals
) -> None:
    for name in 'ab':
        stub_tools.write_config(tmp_path / f'{name}.py', data)
    process = compare(tmp_path, tools, 'out', '--jobs', '2')
    wait_for(tmp_path, 'out', 2)
    os.kill(process.pid, number)
    code, output = exit_code(process, tmp_path, 'out')
    assert code == {signal.SIGTERM: 143, signal.SIGINT: 130}[number], output
    assert 'Traceback' not in output
    before = epochs_in(tmp_path, 'out')
    time.sleep(0.4)
    assert epochs_in(tmp_path, 'out') == before < 20


def test_real_detector_from_training_to_report(tmp_path: Path, data: Path) -> None:
    tiny_detection.write_config(tmp_path / 'a.py', data, epochs=2)
    command = [sys.executable, str(ROOT / 'tools' / 'compare.py'), str(tmp_path / 'a.py'),
               '--seeds', '3', '--out', str(tmp_path / 'out')]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=1200,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads((tmp_path / 'out' / 'results.json').read_text())['runs']
    assert run['iterations'] == 4
    assert run['train_seconds'] > 1
    assert run['peak_rss_mb'] > 100
    assert run['ap']['mAP'] == pytest.approx(run['metrics']['coco/bbox_mAP'], abs=1e-3)
    assert set(run['class_ap']) == set(tiny_detection.CLASSES)
