"""Folders that two comparisons share, that are damaged, or that cannot be written."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from helpers import stub_tools
from helpers.comparing import compare, read
from helpers.forkserver import FORKSERVER
from mmfocalx.compare.child_process import locked
from mmfocalx.compare.cli import main


def test_a_second_comparison_leaves_and_names_the_first(
    tmp_path: Path, tools: Path, config: Path
) -> None:
    with locked(tmp_path / 'out'), pytest.raises(SystemExit) as left:
        compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert f'in use by process {os.getpid()}' in str(left.value)
    assert not (tmp_path / 'out/runs').exists()
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0).code == 0


def test_both_splits_have_reports(tmp_path: Path, tools: Path, config: Path) -> None:
    val = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    test = compare(tools, tmp_path / 'out', config, '--seeds', 0, split='test')
    assert 'tested on the val split' in val.page
    assert 'tested on the test split' in test.page
    assert read(tmp_path / 'out') == val
    assert len((tmp_path / 'out/runs/a/seed0/starts.txt').read_text().splitlines()) == 1


@pytest.mark.parametrize('damage', ['', '{"name": "a"', '[]', 'null', '{}', '{"identity": 3}'])
def test_a_damaged_result_is_tested_again(
    tmp_path: Path, tools: Path, config: Path, damage: str
) -> None:
    first = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    (tmp_path / 'out/runs/a/seed0/val/result.json').write_text(damage)
    again = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert again.code == 0
    assert again.results['runs'][0]['ap'] == first.results['runs'][0]['ap']
    assert len((tmp_path / 'out/runs/a/seed0/starts.txt').read_text().splitlines()) == 1


@pytest.mark.parametrize('damage', ['', '{"identity": {', '[]', '3', '{}'])
def test_a_damaged_state_is_named(tmp_path: Path, tools: Path, config: Path, damage: str) -> None:
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    (tmp_path / 'out/runs/a/seed0/state.json').write_text(damage)
    with pytest.raises(SystemExit, match=r'runs/a/seed0.*(damaged|does not say)'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0, '--rerun-changed').code == 0


def test_checkpoints_of_unknown_origin_are_not_resumed(
    tmp_path: Path, tools: Path, config: Path
) -> None:
    work_dir = tmp_path / 'out/runs/a/seed0'
    work_dir.mkdir(parents=True)
    (work_dir / 'epoch_5.pth').write_text('0.99')
    with pytest.raises(SystemExit, match='does not say what it was trained with'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0)


@pytest.mark.parametrize('mood', ['broken', 'killed', 'broken at seed 0'])
def test_a_run_that_left_nothing_is_set_aside_and_started_afresh(
    tmp_path: Path, data: Path, tools: Path, mood: str
) -> None:
    config = stub_tools.write_config(tmp_path / 'a.py', data, mood=mood)
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0).code == 1
    stub_tools.write_config(config, data)
    mended = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    fresh = compare(tools, tmp_path / 'fresh', config, '--seeds', 0)
    assert mended.code == 0
    assert mended.results['runs'][0]['ap'] == fresh.results['runs'][0]['ap']
    folder = tmp_path / 'out/runs/a/seed0'
    for attempt in (folder, folder.with_name('seed0.old1')):  # each with its own logs
        assert len((attempt / 'starts.txt').read_text().splitlines()) == 1
    stub_tools.write_config(config, data, step=0.2)  # now there is something to lose
    with pytest.raises(SystemExit, match='is not what'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0)


@pytest.mark.parametrize(
    'file', ['best_coco_bbox_mAP_epoch_9.pth', 'non_finite/iter_7.pth', 'test/result.json']
)
def test_a_failed_run_that_left_something_is_not_touched(
    tmp_path: Path, data: Path, tools: Path, file: str
) -> None:
    config = stub_tools.write_config(tmp_path / 'a.py', data, mood='broken')
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    left = tmp_path / 'out/runs/a/seed0' / file
    left.parent.mkdir(exist_ok=True)
    left.write_text('{}')
    stub_tools.write_config(config, data)
    with pytest.raises(SystemExit, match='is not what'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert left.exists()
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0, '--rerun-changed').code == 0


def test_a_report_says_whose_runs_are_in_its_folder_too(
    tmp_path: Path, data: Path, tools: Path, config: Path
) -> None:
    out = tmp_path / 'out'
    others = [stub_tools.write_config(tmp_path / f'{name}.py', data) for name in 'bc']
    compare(tools, out, *others, '--seeds', 0)
    last = compare(tools, out, config, '--seeds', 0)
    assert [note for note in last.results['notes'] if 'folder' in note] == [
        'Runs of b and c are in this folder, too; this report is of the configs that the last '
        'command named.'
    ]
    whole = compare(tools, out, config, *others, '--seeds', 0)
    assert not [note for note in whole.results['notes'] if 'folder' in note]


def test_configs_with_the_same_detections_are_named(
    tmp_path: Path, data: Path, tools: Path, config: Path
) -> None:
    same = stub_tools.write_config(tmp_path / 'b.py', data)
    other = stub_tools.write_config(tmp_path / 'c.py', data, step=0.3)
    done = compare(tools, tmp_path / 'out', config, same, other, '--seeds', 0, 1)
    assert [note for note in done.results['notes'] if 'same detections' in note] == [
        'b has the same detections as the baseline a.'
    ]
    for text in (done.page, (tmp_path / 'out/report.md').read_text()):
        assert 'Not beyond seed noise: the one over images is, the one over seeds is not.' in text


@pytest.mark.parametrize('change', ['delete', 'empty', 'edit'])
def test_predictions_that_are_lost_are_made_again(
    tmp_path: Path, tools: Path, config: Path, change: str
) -> None:
    first = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    predictions = tmp_path / 'out/runs/a/seed0/val/predictions.bbox.json'
    if change == 'delete':
        predictions.unlink()
    else:
        predictions.write_text('' if change == 'empty' else '[]')
    again = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert again.code == 0
    assert [run['ap'] for run in again.results['runs']] == [
        run['ap'] for run in first.results['runs']
    ]


def test_predictions_lost_with_the_checkpoint_cost_their_run_only(
    tmp_path: Path, tools: Path, config: Path
) -> None:
    compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    work_dir = tmp_path / 'out/runs/a/seed0'
    (work_dir / 'val/predictions.bbox.json').unlink()
    for checkpoint in work_dir.glob('*.pth'):
        checkpoint.unlink()
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert done.code == 1
    assert done.seeds() == {'a': [1]}
    assert 'training left no checkpoint' in done.failed()['a', 0]


def test_a_torn_evaluation_is_made_again(tmp_path: Path, tools: Path, config: Path) -> None:
    first = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    for damage in (b'', b'PK', b'\0' * 999):
        (tmp_path / 'out/runs/a/seed0/val/judged.npz').write_bytes(damage)
        done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
        assert done.results['runs'] == first.results['runs']


def test_a_folder_that_is_a_file(tmp_path: Path, tools: Path, config: Path) -> None:
    (tmp_path / 'out').write_text('precious')
    with pytest.raises(SystemExit, match=r'--out .*/out cannot be used: .*File exists'):
        compare(tools, tmp_path / 'out', config)
    assert (tmp_path / 'out').read_text() == 'precious'
    with pytest.raises(SystemExit, match=r'--out .*/out/below cannot be used: .*Not a directory'):
        compare(tools, tmp_path / 'out' / 'below', config)


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, tools: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path, *rest):
        if str(path).endswith('out/.lock'):
            raise PermissionError(13, 'Permission denied')
        return opened(path, *rest)

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(SystemExit, match=r'--out .*out cannot be used: .*Permission denied'):
        compare(tools, tmp_path / 'out', config)


def compare_in_this_process(tools: Path, arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    main(tools, arguments)


def start(tools: Path, arguments: list[str]):
    process = FORKSERVER.Process(target=compare_in_this_process, args=(tools, arguments))
    process.start()
    return process


def numbers(out: Path) -> list:
    results = json.loads((out / 'results.json').read_text())
    assert (results['failed'], results['missing']) == ([], [])
    runs = [(run['name'], run['seed'], run['metrics'], run['ap']) for run in results['runs']]
    return [runs, results['comparisons'], [row['mAP'] for row in results['summary']]]


def text_of(out: Path) -> list[str]:
    """The report without the lines that hold times and memory."""
    lines = (out / 'report.md').read_text().splitlines()
    return [line for line in lines if ' min | ' not in line]


def kill_and_compare(
    tmp_path: Path, data: Path, tools: Path, kills: int, pause: float = 0.05
) -> list[int]:
    """Killed at random points, twice with two processes at once, the report is the same.

    Returns:
        How many of the 30 epochs had been gone through at each kill.
    """
    for name, step in (('a', 0.1), ('b', 0.3), ('c', 0.5)):
        stub_tools.write_config(tmp_path / f'{name}.py', data, step=step, pause=pause)
    arguments = [*(str(tmp_path / f'{name}.py') for name in 'abc'), '--seeds', '0', '1', '--out']
    began = time.monotonic()
    assert main(tools, [*arguments, str(tmp_path / 'whole')]) == 0
    lasts = time.monotonic() - began
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    out = tmp_path / 'killed'
    points = []
    for kill in range(kills):
        together = 2 if kill < 2 else 1
        processes = [start(tools, [*arguments, str(out)]) for _ in range(together)]
        time.sleep(rng.uniform(0.3, 0.3 + 1.7 * lasts / kills))
        for process in processes:
            process.kill()
            process.join()
        histories = out.glob('runs/*/*/history.txt')
        points.append(sum(len(path.read_text().splitlines()) for path in histories))
    processes = [start(tools, [*arguments, str(out)]) for _ in range(2)]
    for process in processes:
        process.join(600)
    assert 0 in [process.exitcode for process in processes]
    assert numbers(out) == numbers(tmp_path / 'whole'), seed
    assert text_of(out) == text_of(tmp_path / 'whole'), seed
    page, expected = (read(folder).page for folder in (out, tmp_path / 'whole'))
    assert ('Runs left out' in page, 'Missing' in page) == (False, False)
    assert len(page) == pytest.approx(len(expected), abs=200)
    return points


def test_killed_with_two_processes_on_one_folder(tmp_path: Path, data: Path, tools: Path) -> None:
    kill_and_compare(tmp_path, data, tools, kills=3)
