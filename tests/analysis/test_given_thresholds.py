"""Thresholds chosen on one split and judged on another, against counting by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip('hotcoco')
pytest.importorskip('matplotlib')

from helpers.coco_by_hand import counts_at
from helpers.score_quality_by_hand import scene
from mmfocalx.analysis.given_thresholds import ONE, OWN, notes, read
from mmfocalx.analysis.operating_cli import main

CATEGORIES = {'bird': 5, 'cat': 2}


def run(folder: Path, seed: int, *options: object) -> dict:
    """The JSON that the command line writes on a scene."""
    folder.mkdir(exist_ok=True)
    truth, found = scene(seed, images=25)
    for name, content in (('detections', found), ('annotations', truth)):
        (folder / f'{name}.json').write_text(json.dumps(content))
    files = [str(folder / f'{name}.json') for name in ('detections', 'annotations')]
    assert main([*files, '--out', str(folder / 'out'), *map(str, options)]) == 0
    written = 'at_given_thresholds' if '--thresholds' in options else 'thresholds'
    return json.loads((folder / f'out/{written}.json').read_text())


@pytest.mark.parametrize('kind', ['f_beta', 'lrp'])
@pytest.mark.parametrize('iou', [0.5, 0.7])
def test_counts_are_those_at_the_thresholds_of_the_other_split(
    tmp_path: Path, kind: str, iou: float
) -> None:
    chosen = run(tmp_path / 'val', 0, '--iou', iou)
    file = tmp_path / 'val/out/thresholds.json'
    given = run(tmp_path / 'test', 1, '--iou', iou, '--thresholds', file)['at_given_thresholds']
    truth, found = scene(1, images=25)
    right = kept = objects = 0
    for name, category in CATEGORIES.items():
        threshold = chosen['classes'][name][kind]['threshold']
        counts = counts_at(truth, found, category, iou, threshold)
        assert given[name][kind] == {
            'threshold': threshold,
            'kept': counts.right + counts.wrong,
            'right': counts.right,
            'objects': counts.truths,
            'precision': pytest.approx(counts.precision, abs=1e-12),
            'recall': pytest.approx(counts.recall, abs=1e-12),
        }
        right, kept = right + counts.right, kept + counts.right + counts.wrong
        objects += counts.truths
    own = given[OWN][kind]
    assert (own['right'], own['kept'], own['objects']) == (right, kept, objects)
    assert own['threshold'] is None
    at = chosen['all_classes'][kind]['threshold']
    both = [counts_at(truth, found, category, iou, at) for category in CATEGORIES.values()]
    assert given[ONE][kind]['right'] == sum(counts.right for counts in both)
    assert given[ONE][kind]['kept'] == sum(counts.right + counts.wrong for counts in both)


def test_on_the_same_split_they_give_what_they_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = run(tmp_path / 'val', 0)
    assert 'given thresholds' not in capsys.readouterr().out
    file = tmp_path / 'val/out/thresholds.json'
    again = run(tmp_path / 'again', 0, '--thresholds', file)
    assert again['given_thresholds'] == str(file)
    for name in CATEGORIES:
        for kind, kept in again['at_given_thresholds'][name].items():
            promised = chosen['classes'][name][kind]
            assert kept['precision'] == pytest.approx(promised['precision'], abs=1e-12)
            assert kept['recall'] == pytest.approx(promised['recall'], abs=1e-12)
    assert f'At the given thresholds, {file}:' in capsys.readouterr().out
    page = (tmp_path / 'again/out/report.html').read_text()
    assert f'What the thresholds of <code>{file}</code>' in page
    bird = chosen['classes']['bird']['lrp']
    cells = [
        f'<b>{bird["threshold"]:#.4g}</b>',
        *(f'{100 * bird[k]:.1f}' for k in ('precision', 'recall')),
    ]
    shown = re.search(r'At the given thresholds.*?<th>bird</th>(.*?)</tr>', page, re.DOTALL)
    assert re.findall('<td>(.*?)</td>', shown[1])[3:] == cells


def test_nothing_that_is_chosen_on_the_judged_images_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / 'val', 0)
    assert 'Use it' in (tmp_path / 'val/out/report.html').read_text()
    capsys.readouterr()
    file = tmp_path / 'val/out/thresholds.json'
    given = run(tmp_path / 'test', 1, '--thresholds', file)
    written = {path.name for path in (tmp_path / 'test/out').iterdir()}
    assert written == {'at_given_thresholds.json', 'report.html'}
    assert not {'classes', 'all_classes'} & set(given)
    page = (tmp_path / 'test/out/report.html').read_text()
    for text, columns in (
        (capsys.readouterr().out, 'class | objects'),
        (page, '<th>class</th><th>objects</th>'),
    ):
        before, after = text.split('For comparison only, not to be used')
        assert 'At the given thresholds' in before
        assert columns not in before
        assert columns in after
        assert 'Keep what scores' not in text
    assert 'Use it' not in page
    assert 'thresholds.json' not in page.replace(str(file), '')
    with pytest.raises(ValueError, match=r'no thresholds\.json of this tool'):
        read(tmp_path / 'test/out/at_given_thresholds.json', CATEGORIES, {})


def test_thresholds_are_not_judged_beside_others_nor_scores_calibrated(tmp_path: Path) -> None:
    chosen = run(tmp_path / 'val', 0)
    file = tmp_path / 'val/out/thresholds.json'
    with pytest.raises(SystemExit, match=r'out has a thresholds\.json already'):
        run(tmp_path / 'val', 0, '--thresholds', file)
    assert json.loads(file.read_text()) == chosen
    scores = tmp_path / 'calibrated.json'
    with pytest.raises(SystemExit, match=r'--calibrated .*calibrated\.json with --thresholds'):
        run(tmp_path / 'test', 1, '--thresholds', file, '--calibrated', scores)
    assert not scores.exists()
    run(tmp_path / 'test', 1, '--thresholds', file)
    with pytest.raises(SystemExit, match=r'out has an at_given_thresholds\.json'):
        run(tmp_path / 'test', 1)
    assert not (tmp_path / 'test/out/thresholds.json').exists()
    (tmp_path / 'test/out/calibrator.json').write_text('{}')
    with pytest.raises(SystemExit, match=r'out has a calibrator\.json already'):
        run(tmp_path / 'test', 1, '--thresholds', file)


def edited(file: Path, **changes: object) -> Path:
    """A thresholds.json with other entries."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(content))
    return file


def test_a_class_without_a_threshold_keeps_nothing(tmp_path: Path) -> None:
    chosen = run(tmp_path / 'val', 0)
    none = {**chosen['classes']['cat'], 'f_beta': None, 'lrp': None}
    file = edited(tmp_path / 'val/out/thresholds.json', classes={**chosen['classes'], 'cat': none})
    given = run(tmp_path / 'test', 1, '--thresholds', file)['at_given_thresholds']
    assert given['cat'] == {'f_beta': None, 'lrp': None}
    assert given[OWN]['lrp']['kept'] == given['bird']['lrp']['kept']
    truth, _ = scene(1, images=25)
    objects = [one for one in truth['annotations'] if not one.get('iscrowd')]
    assert given[OWN]['lrp']['objects'] == len(objects)


def test_what_the_given_thresholds_lack_and_have_too_much_is_noted(tmp_path: Path) -> None:
    chosen = run(tmp_path / 'val', 0)
    file = tmp_path / 'val/out/thresholds.json'
    plain = run(tmp_path / 'test', 1, '--thresholds', file)
    assert not [note for note in plain['notes'] if 'given threshold' in note]
    none = {**chosen['classes']['cat'], 'lrp': None}
    edited(file, classes={**chosen['classes'], 'cat': none, 'dog': none})
    found = run(tmp_path / 'test', 1, '--thresholds', file)
    assert [note for note in found['notes'] if 'given threshold' in note] == [
        'The given thresholds have none for cat: no such detection is kept, and all such objects '
        'count as missed.',
        'The given threshold for all classes was chosen with dog, too, which the annotations do '
        'not have.',
    ]


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'iou_threshold': 0.75}, r'made with --iou 0\.75: give it here, too'),
        ({'beta': 2}, r'made with --beta 2: give it here, too'),
        ({'max_detections': 300}, r'made with --max-detections 300: give it here, too'),
        ({'beta': None}, r'no thresholds\.json of this tool \(.*`beta`'),
        (
            {'classes': {'dog': {'f_beta': None, 'lrp': None}}},
            'no class bird, cat and rare, but dog: is it of other data',
        ),
        ({'classes': {}}, 'no class bird, cat and rare, but none at all'),
        ({'classes': 3}, r'no thresholds\.json of this tool'),
        ({'all_classes': {'f_beta': 0.5, 'lrp': None}}, r'no thresholds\.json of this tool'),
        (
            {'all_classes': {'f_beta': {'threshold': '0.5'}, 'lrp': None}},
            r'no thresholds\.json of this tool',
        ),
        ({'iou_threshold': '0.5'}, r'no thresholds\.json of this tool'),
        ({'iou_threshold': None}, r'no thresholds\.json of this tool'),
    ],
)
def test_thresholds_that_do_not_belong_are_refused(
    tmp_path: Path, changes: dict, words: str
) -> None:
    run(tmp_path / 'val', 0)
    file = edited(tmp_path / 'val/out/thresholds.json', **changes)
    with pytest.raises(SystemExit, match=words):
        run(tmp_path / 'test', 1, '--thresholds', file)
    assert not (tmp_path / 'test/out').exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r'--thresholds: no file .*none\.json'):
        run(tmp_path / 'test', 1, '--thresholds', tmp_path / 'none.json')


def judged_notes(chosen: str, judged: str) -> list[str]:
    classes = {'classes': {}, 'detections': chosen}
    return notes(classes, Path(judged), {})


RUN = 'out/runs/focal/seed1'


@pytest.mark.parametrize(
    ('judged', 'named'),
    [
        (f'{RUN}/test/predictions.bbox.json', ''),
        (f'/elsewhere/{RUN}/test/predictions.bbox.json', ''),
        ('out/runs/focal/seed2/test/predictions.bbox.json', 'focal/seed2'),
        ('out/runs/focal/seed12/test/predictions.bbox.json', 'focal/seed12'),
        ('out/runs/rank/seed1/test/predictions.bbox.json', 'rank/seed1'),
        ('predictions.bbox.json', ''),
        ('somewhere/else/test/predictions.bbox.json', ''),
    ],
)
def test_thresholds_of_another_checkpoint_are_named(judged: str, named: str) -> None:
    found = judged_notes(f'{RUN}/val/predictions.bbox.json', judged)
    expected = (
        f'The given thresholds were chosen on detections of focal/seed1, these are of {named}: '
        'thresholds belong to one checkpoint.'
    )
    assert found == ([expected] if named else [])
    assert judged_notes('predictions.bbox.json', judged) == []
    assert notes({'classes': {}}, Path(judged), {}) == []
