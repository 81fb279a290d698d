"""A part of a report that fails is a named gap, and nothing takes a finished training away."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import pytest

from helpers import judged_runs, stub_tools
from helpers.comparing import Compared, compare, read
from mmfocalx.compare import building, charts, html, markdown, report
from mmfocalx.compare.comparison import Group
from mmfocalx.compare.report import Report

HEADINGS = (
    'Was it better?',
    'Am I sure?',
    'What are the scores worth?',
    'Where?',
    'AP of each class',
    'Optimal score threshold of each class',
    'Every run',
    'How this was made',
)
CHARTS = {
    'difference_chart': 'Difference of mAP',
    'iou_chart': 'Loose and tight boxes',
    'map_chart': 'mAP while training',
    'loss_chart': 'Training loss',
    'class_chart': 'AP of each class',
    'precision_chart': 'Precision and recall, IoU 0.5',
    'reliability_chart': 'Reliability',
    'density_chart': 'Score and IoU',
    'tide_chart': 'Types of error',
}


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp('made')
    data = judged_runs.write_dataset(root / 'data', ('disc', 'bar'))
    return judged_runs.make(root, data, ('base', 'other'))


def written(made: Report) -> Compared:
    whole = made.write()
    return read(made.page.parent, int(not whole))


def missing(done: Compared) -> set[str]:
    assert all('RuntimeError: injected' in gap['reason'] for gap in done.results['missing'])
    return {gap['part'] for gap in done.results['missing']}


def assert_the_rest_is_there(done: Compared, without: tuple[str, ...] = ()) -> None:
    assert done.code == 1
    assert 'Missing parts of this report' in done.page
    for part in missing(done):
        assert f'{part}: RuntimeError: injected' in done.page
    for heading in HEADINGS:
        assert heading in without or heading in done.page
    assert len(done.results['runs']) == 4
    assert all(run['metrics']['coco/bbox_mAP'] == 0.5 for run in done.results['runs'])


def test_without_a_fault_nothing_is_missing(made: Report) -> None:
    done = written(made)
    assert (done.code, done.results['missing']) == (0, [])
    assert 'Missing' not in done.page


OF_BOTH = ('base', 'other')
FAULTS: list[tuple[ModuleType, str, set[str]]] = [
    (building, 'spread_of', {
        f'{part} of {name}' for name in OF_BOTH for part in
        ('AP', 'AP of each class', 'score quality', 'score thresholds', 'time and memory')
    } | {'best configs', 'pictures', 'chart "Score and IoU"'}),
    (building, 'over_images', {'differences and intervals of other'}),
    (building, 'over_seeds', {'differences and intervals of other'}),
    (building, 'training_curves', {f'training curves of {name}' for name in OF_BOTH}),
    (building, 'contents', {'numbers of objects'}),
    (building, 'ground_truth', {'number of images'}),
    (building, 'notes_of', {'notes'}),
    (building, '_best', {'best configs'}),
    (building, '_row', {f'single runs of {name}' for name in OF_BOTH}),
    (html, 'pair_to_show', {'pictures'}),
    (html, 'differing_pictures', {'pictures'}),
    (html, 'charts_of', {'charts'}),
    (html, 'signed', {'table of differences'}),
    (html, 'spread', {'table of configs', 'table of score quality', 'table of classes',
                      'table of score thresholds'}),
    (html, 'duration', {'table of configs', 'table of runs'}),
    *((charts, name, {f'chart "{title}"'}) for name, title in CHARTS.items()
      if name != 'precision_chart'),
    (charts, 'precision_chart', {f'chart "Precision and recall, IoU {t}"' for t in (0.5, 0.75)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ('module', 'name', 'parts'), FAULTS, ids=[f'{m.__name__}.{n}' for m, n, _ in FAULTS]
)
def test_a_fault_takes_its_own_part_only(
    made: Report, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, parts: set[str]
) -> None:
    fault = Mock(side_effect=RuntimeError('injected'))
    if name == 'spread_of':  # what rests on the statistics fails for want of them
        monkeypatch.setattr(module, name, fault)
        done = written(made)
        assert parts <= {gap['part'] for gap in done.results['missing']} | {'best configs'}
        assert done.code == 1
        for heading in HEADINGS:
            assert heading in done.page
        return
    monkeypatch.setattr(module, name, fault)
    done = written(made)
    assert missing(done) == parts
    absent = {'over_images': ('Am I sure?',), 'over_seeds': ('Am I sure?',)}.get(name, ())
    if 'table of classes' in parts:
        absent = ('Optimal score threshold of each class',)
    if 'table of runs' in parts:
        absent = ('Every run',)
    assert_the_rest_is_there(done, absent)
    drawn = done.page  # the text; pictures are counted in the source
    source = made.page.read_text()
    lost = sum(part.startswith('chart "') for part in parts)
    if name not in ('charts_of', 'over_images', 'over_seeds', 'training_curves'):
        assert source.count('data:image/svg') == 10 - lost, drawn


@pytest.mark.parametrize(
    ('module', 'name', 'part'),
    [
        (report, 'build', 'comparison'),
        (report, 'html_report', 'report.html'),
        (report, 'markdown_report', 'report.md'),
    ],
)
def test_a_writer_that_fails_takes_no_other_along(
    made: Report, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, part: str
) -> None:
    monkeypatch.setattr(module, name, Mock(side_effect=RuntimeError('injected')))
    done = written(made)
    assert done.code == 1
    assert missing(done) == {part}
    assert len(done.results['runs']) == 4
    if name != 'markdown_report':
        assert f'{part}: `RuntimeError: injected`' in made.text.read_text()
        assert 'injected' in done.page


@pytest.mark.parametrize('table', ['_summary', '_differences', '_quality', '_runs'])
def test_a_table_of_the_text_that_fails(
    made: Report, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(markdown, table, Mock(side_effect=RuntimeError('injected')))
    whole = made.write()
    text = made.text.read_text()
    assert not whole
    assert '## Missing parts of this report' in text
    assert sum(line.startswith('| ---') for line in text.splitlines()) == 3


def test_a_chart_of_odd_numbers_leaves_the_others(made: Report) -> None:
    comparison = made.comparison()
    group: Group = comparison.groups[0]
    group.variants[0].quality = {}
    group.variants[1].class_ap = {}
    page = html.html_report(comparison, gaps := type(comparison.gaps)())
    assert [gap.part for gap in gaps] == ['chart "Score and IoU"']
    assert page.count('data:image/svg') == 9


@pytest.mark.parametrize('name', ['page', 'text', 'numbers'])
def test_a_full_disk_leaves_the_last_whole_report(
    made: Report, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture
) -> None:
    made.write()
    before = {key: getattr(made, key).read_bytes() for key in ('page', 'text', 'numbers')}
    sync = os.fsync

    def full(descriptor: int) -> None:
        if Path(f'/proc/self/fd/{descriptor}').readlink().name.startswith(getattr(made, name).name):
            raise OSError(28, 'No space left on device')
        sync(descriptor)

    monkeypatch.setattr(os, 'fsync', full)
    assert not made.write()
    assert f'{getattr(made, name)} could not be written: OSError' in capsys.readouterr().err
    assert getattr(made, name).read_bytes() == before[name]
    assert not list(made.page.parent.glob('*.tmp'))


def compare_two(tmp_path: Path, data: Path, tools: Path, mood: str = 'fine') -> Compared:
    for k, name in enumerate('ab'):
        stub_tools.write_config(tmp_path / f'{name}.py', data, 0.1 + 0.3 * k, mood, pause=0.01)
    configs = [tmp_path / 'a.py', tmp_path / 'b.py']
    return compare(tools, tmp_path / 'out', *configs, '--seeds', 0, 1)


@pytest.mark.parametrize(
    ('mood', 'shown'),
    [('misses class 1', 'No seed of any RetinaNet config found an object of the class disc: mAP '
      'counts it as 0.'),
     ('misses class 1 at seed 1', '(1 of 2)')],
)  # fmt: skip
def test_a_class_that_seeds_do_not_find(
    tmp_path: Path, data: Path, tools: Path, mood: str, shown: str
) -> None:
    done = compare_two(tmp_path, data, tools, mood)
    assert (done.code, done.results['missing']) == (0, [])
    assert shown in done.page
    assert ('none found' in done.page) == ('seed 1' not in mood)


def test_a_class_that_one_config_does_not_find(tmp_path: Path, data: Path, tools: Path) -> None:
    for name, mood in (('a', 'misses class 1'), ('b', 'fine'), ('c', 'misses class 1 at seed 1')):
        stub_tools.write_config(tmp_path / f'{name}.py', data, 0.4, mood, pause=0.01)
    configs = [tmp_path / f'{name}.py' for name in 'abc']
    done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0, 1)
    notes = [note for note in done.results['notes'] if 'found an object' in note]
    assert notes == ['No seed of a found an object of the class disc: mAP counts it as 0.']
    assert notes[0] in done.page


def change(annotation: dict, **values) -> dict:
    return {**annotation, **values}


ODD: dict[str, tuple[Callable[[dict], dict], str]] = {
    'unknown category': (lambda a: change(a, category_id=99), 'a category that the file does not'),
    'no category': (lambda a: change(a, category_id=None), 'a category that the file does not'),
    'unknown image': (lambda a: change(a, image_id=999), 'an image that the file does not list'),
    'NaN': (lambda a: change(a, bbox=[math.nan, 2, 3, 4]), 'a number that is not finite'),
    'infinite': (lambda a: change(a, bbox=[1, 2, math.inf, 4]), 'a number that is not finite'),
    'negative': (lambda a: change(a, bbox=[30, 30, -9, 4]), 'a box with a negative side'),
    'no box': (lambda a: {k: v for k, v in a.items() if k != 'bbox'}, 'no box of four numbers'),
    'short': (lambda a: change(a, bbox=[1, 2, 3]), 'no box of four numbers'),
    'text': (lambda a: change(a, bbox=['1', '2', '3', '4']), 'no box of four numbers'),
}


@pytest.mark.parametrize('oddity', ODD)
def test_an_odd_annotation_is_said_and_does_no_harm(
    tmp_path: Path, data: Path, tools: Path, oddity: str
) -> None:
    make, words = ODD[oddity]
    path = data / 'annotations.json'
    content = json.loads(path.read_text())
    content['annotations'].append(make(change(content['annotations'][0], id=1000)))
    path.write_text(json.dumps(content))
    done = compare_two(tmp_path, data, tools)
    reasons = done.results['missing'], done.results['failed']
    if oddity in ('short', 'text'):  # the stub itself cannot read them; judging can
        assert all('test: ' in run['reason'] for run in done.results['failed'])
        return
    assert reasons == ([], [])
    assert done.code == 0
    assert f'1 annotation has {words}' in done.page or words in done.page


def test_a_locale_that_lacks_the_characters(tmp_path: Path, data: Path, tools: Path) -> None:
    content = (data / 'annotations.json').read_text(encoding='utf-8')
    (data / 'annotations.json').write_text(
        content.replace('"disc"', '"döner 圆盘"'), encoding='utf-8'
    )
    for k, name in enumerate(('a', 'b')):
        stub_tools.write_config(tmp_path / f'{name}.py', data, 0.1 + 0.3 * k, pause=0.01)
    script = (
        'import sys; from pathlib import Path; from mmfocalx.compare.cli import main\n'
        f'sys.exit(main(Path({str(tools)!r})))'
    )
    arguments = [str(tmp_path / 'a.py'), str(tmp_path / 'b.py'), '--seeds', '0', '1']
    done = subprocess.run(
        [sys.executable, '-c', script, *arguments, '--out', str(tmp_path / 'out')],
        env={**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0',
             'PYTHONIOENCODING': 'ascii'},
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / 'out/report.html').read_text(encoding='utf-8')
    assert 'döner 圆盘' in page
    assert '−' in page or '±' in page
