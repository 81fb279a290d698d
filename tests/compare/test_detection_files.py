"""Files of detections are compared as trained runs are, without what needs a training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers import judged_runs, stub_tools
from helpers.comparing import Compared, read
from mmfocalx.compare.cli import main
from mmfocalx.compare.evaluation import evaluate
from mmfocalx.compare.intervals import over_images
from mmfocalx.compare.runs import Run

TRAINED = ('seed', 'training', 'Training', 'iterations', 'memory', 'over seeds', "Welch's")


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A data set, and two files of detections of it."""
    root = tmp_path_factory.mktemp('files')
    data = judged_runs.write_dataset(root / 'data', ('disc', 'bar'), images=14)
    truth = json.loads((data / 'annotations.json').read_text())
    paths = []
    for k, name in enumerate(('first', 'second')):
        path = root / f'{name}.bbox.json'
        path.write_text(json.dumps(judged_runs.detections(truth, k, 3 - 2 * k)))
        paths.append(path)
    return data, paths


def compare(tmp_path: Path, annotations: Path, *arguments: object) -> Compared:
    words = ['--annotations', str(annotations), '--out', str(tmp_path), '--detections']
    return read(tmp_path, main(Path('no tools are needed'), [*words, *map(str, arguments)]))


def test_numbers_are_those_of_runs_with_these_detections(
    files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    data, paths = files
    done = compare(tmp_path / 'out', data / 'annotations.json', *paths)
    assert done.code == 0
    assert done.results['missing'] == []
    evaluations = []
    for k, (name, path) in enumerate(zip(('first', 'second'), paths, strict=True)):
        config = stub_tools.write_config(tmp_path / f'{name}.py', data, step=k)
        run = Run(name, 0, config, tmp_path / name)
        outcome = judged_runs.finish(run, data, k, 3 - 2 * k)
        (run.result_file.parent / 'found.json').write_bytes(path.read_bytes())
        evaluations.append(evaluate(outcome))
    for one, row, evaluation in zip(
        done.results['summary'], done.results['runs'], evaluations, strict=True
    ):
        assert one['name'] == evaluation.run.name
        assert one['mAP'] == pytest.approx(100 * evaluation.ap['mAP'], rel=1e-12)
        assert row['ap'] == pytest.approx(evaluation.ap)
        assert row['tide'] == pytest.approx(evaluation.tide)
        assert row['quality'] == pytest.approx(evaluation.quality, nan_ok=True)
    expected = over_images(*([100 * e.draws.mean(axis=1)] for e in evaluations[::-1]))
    got = done.difference('second')
    assert [*got] == ['over_images']
    assert [*got['over_images'].values()] == pytest.approx([*expected], rel=1e-12)


def test_the_parts_of_runs_are_absent(files: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, paths = files
    out = tmp_path / 'out'
    done = compare(out, data / 'annotations.json', *paths, '--images', data / 'images')
    page = (out / 'report.html').read_text()
    assert page.count('data:image/svg') == 8  # neither training loss nor mAP while training
    assert page.count('data:image/jpeg') >= 2
    text = done.page + (out / 'report.md').read_text() + json.dumps(done.results)
    text = text.replace('nothing was trained', '').replace('Whether another training would', '')
    assert [words for words in TRAINED if words in text] == []
    for words in ('Comparison of 2 detection files', 'Types of error', 'Reliability',
                  'better on these images', 'nothing was trained'):  # fmt: skip
        assert words in done.page
    for path in paths:  # what was compared
        assert re.search(rf'{re.escape(str(path))} *[0-9a-f]{{16}}', done.page)


def test_one_file_is_a_report_without_differences(
    files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    data, paths = files
    done = compare(tmp_path / 'out', data / 'annotations.json', paths[0])
    assert done.code == 0
    assert 'Am I sure?' not in done.page
    assert 'Types of error' in done.page


def test_files_of_one_name_go_by_their_paths(
    files: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    data, paths = files
    same = tmp_path / paths[0].name
    same.write_bytes(paths[1].read_bytes())
    done = compare(tmp_path / 'out', data / 'annotations.json', paths[0], same)
    assert [row['name'] for row in done.results['summary']] == [str(paths[0]), str(same)]


def test_a_copy_of_the_baseline_is_named(files: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, paths = files
    copy = tmp_path / 'copy.json'
    copy.write_bytes(paths[0].read_bytes())
    done = compare(tmp_path / 'out', data / 'annotations.json', *paths, copy)
    said = [note for note in done.results['notes'] if 'same content' in note]
    assert said == [f'{copy} has the same content as {paths[0]}.']
    lines = (tmp_path / 'out/report.md').read_text().splitlines()
    rows = [line.strip('| ').split(' | ') for line in lines]
    verdicts = {row[0]: row[-1] for row in rows if len(row) == 5 and row[1] == 'mAP'}
    gain = done.difference('second')['over_images']
    assert gain['low'] > 0 or gain['high'] < 0
    word = 'better' if gain['difference'] > 0 else 'worse'
    assert verdicts == {'second': f'{word} on these images', 'copy': 'not certain'}


def bad_image(found: list, truth: dict) -> None:
    found[0]['image_id'] = 77


def other_data(found: list, truth: dict) -> None:
    for image in truth['images']:
        image['id'] += 1000
    for one in truth['annotations']:
        one['image_id'] += 1000


def bad_category(found: list, truth: dict) -> None:
    found[0]['category_id'] = 9


def empty(found: list, truth: dict) -> None:
    found.clear()


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (bad_image, r'1 of \d+ detections of .*second.bbox.json are of images .*image_id 77'),
        (other_data, r'first.bbox.json are of images that .*image_id 0, 1, 2, 3, 4 and 9 more. Are '
         'they of another data set'),
        (bad_category, 'second.bbox.json are of categories .*category_id 9'),
        (empty, 'second.bbox.json is an empty list'),
    ],
)  # fmt: skip
def test_a_file_that_does_not_belong_is_refused_by_name(
    files: tuple[Path, list[Path]], tmp_path: Path, spoil, words: str
) -> None:
    data, paths = files
    found = json.loads(paths[1].read_text())
    truth = json.loads((data / 'annotations.json').read_text())
    spoil(found, truth)
    second, annotations = tmp_path / paths[1].name, tmp_path / 'annotations.json'
    second.write_text(json.dumps(found))
    annotations.write_text(json.dumps(truth))
    with pytest.raises(SystemExit, match=words):
        compare(tmp_path / 'out', annotations, paths[0], second)
    assert not (tmp_path / 'out' / 'report.html').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--detections', 'a.json'], '--annotations'),
        (['--annotations', 'a.json', 'c.py'], '--detections and --annotations'),
        (['c.py', '--detections', 'a.json', '--annotations', 'b.json'], 'not both: c.py'),
        (['--detections', 'a.json', '--annotations', 'b.json', '--seeds', '5'], '--seeds is for'),
        (['--detections', 'a.json', '--annotations', 'b.json', '--jobs', '2'], '--jobs is for'),
        (['--detections', 'a', 'a', '--annotations', 'b.json'], 'given twice: a'),
        ([], 'give config files, or --detections'),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(tmp_path, [*arguments, '--out', str(tmp_path / 'out')])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
