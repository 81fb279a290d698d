"""Thresholds against a search of all of them; calibration against scikit-learn's own."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco.metrics import calibration_curve
from sklearn.calibration import calibration_curve as reference_curve
from sklearn.isotonic import IsotonicRegression

from helpers.coco_by_hand import counts_at, outcomes
from helpers.score_quality_by_hand import scene
from mmfocalx.analysis import operating_charts
from mmfocalx.analysis.calibration import first_half
from mmfocalx.analysis.calibrator import load_calibrator
from mmfocalx.analysis.operating_charts import right
from mmfocalx.analysis.operating_cli import main
from mmfocalx.analysis.operating_point import Settings, study

CATEGORIES = {'bird': 5, 'cat': 2}


def write(folder: Path, truth: dict, found: object) -> list[str]:
    """The two files of a command line."""
    paths = folder / 'detections.json', folder / 'annotations.json'
    for path, content in zip(paths, (found, truth), strict=True):
        path.write_text(json.dumps(content))
    return [str(path) for path in paths]


def run(folder: Path, truth: dict, found: object, *options: str) -> dict:
    """The thresholds that the command line writes."""
    code = main([*write(folder, truth, found), '--out', str(folder / 'out'), *options])
    assert code == 0
    return json.loads((folder / 'out' / 'thresholds.json').read_text())


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize(('beta', 'iou'), [(1.0, 0.5), (2.0, 0.5), (0.5, 0.7)])
def test_thresholds_are_the_best_of_all(tmp_path: Path, seed: int, beta: float, iou: float) -> None:
    truth, found = scene(seed, images=25)
    got = run(tmp_path, truth, found, '--beta', str(beta), '--iou', str(iou))
    for name, category in CATEGORIES.items():
        scores = sorted({d['score'] for d in found if d['category_id'] == category}, reverse=True)
        tried = {s: counts_at(truth, found, category, iou, s) for s in scores}
        f_beta = {s: counts.f_beta(beta) for s, counts in tried.items()}
        lrp = {s: counts.lrp(iou) for s, counts in tried.items() if counts.right}
        best = {
            'f_beta': (max(f_beta, key=f_beta.__getitem__), max(f_beta.values())),
            'lrp': (min(lrp, key=lrp.__getitem__), min(lrp.values())),
        }
        for kind, (threshold, value) in best.items():
            point = got['classes'][name][kind]
            assert point['threshold'] == threshold
            assert point['value'] == pytest.approx(value, rel=1e-12)
            assert point['precision'] == pytest.approx(tried[threshold].precision, rel=1e-12)
            assert point['recall'] == pytest.approx(tried[threshold].recall, rel=1e-12)


def test_one_threshold_for_all_classes(tmp_path: Path) -> None:
    truth, found = scene(3, images=25)
    got = run(tmp_path, truth, found)['all_classes']['f_beta']

    def value(threshold: float) -> float:
        parts = [counts_at(truth, found, c, 0.5, threshold) for c in CATEGORIES.values()]
        true, wrong, truths = (sum(part[k] for part in parts) for k in range(3))
        return 2 * true / (truths + true + wrong)

    values = {score: value(score) for score in {d['score'] for d in found}}
    assert got['value'] == pytest.approx(max(values.values()), rel=1e-12)
    assert got['value'] == pytest.approx(values[got['threshold']], rel=1e-12)


@pytest.mark.parametrize('target', ['precision', 'iou'])
def test_calibration_is_that_of_scikit_learn(tmp_path: Path, target: str) -> None:
    truth, found = scene(4, images=60)
    run(tmp_path, truth, found, '--target', target, '--calibrated', str(tmp_path / 'c.json'))
    calibrator = load_calibrator(tmp_path / 'out' / 'calibrator.json')
    fitted_on = set(calibrator.about['fitted_on_images'])
    assert len(fitted_on) == 30
    written = json.loads((tmp_path / 'out' / 'calibrator.json').read_text())
    changed = json.loads((tmp_path / 'c.json').read_text())
    for name, category in CATEGORIES.items():
        seen = outcomes(truth, found, category, 0.5 if target == 'precision' else 1e-6)
        seen = [one for one in seen if one[0] in fitted_on]
        wanted = [float(iou > 0) if target == 'precision' else iou for _, _, iou in seen]
        reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds='clip')
        reference.fit([score for _, score, _ in seen], wanted)
        scores = np.linspace(0, 1, 501)
        expected = reference.predict(scores)
        np.testing.assert_allclose(calibrator(scores, name), expected, atol=1e-12)
        curve = written['classes'][name]  # without this package
        by_numpy = np.interp(scores, curve['scores'], curve['calibrated'])
        np.testing.assert_allclose(by_numpy, expected, atol=1e-12)
        before = sorted((d for d in found if d['category_id'] == category),
                        key=lambda d: -d['score'])  # fmt: skip
        after = [d for d in changed if d['category_id'] == category]
        assert [d['bbox'] for d in after] == [d['bbox'] for d in before]
        np.testing.assert_allclose(
            [d['score'] for d in after], reference.predict([d['score'] for d in before]), atol=1e-12
        )


def expected_error(scores: np.ndarray, is_right: np.ndarray, bins: int = 25) -> float:
    """D-ECE by scikit-learn's bins."""
    edges = np.linspace(0, 1, bins + 1)
    numbers = np.bincount(np.searchsorted(edges[1:-1], scores, side='right'), minlength=bins)
    precision, mean = reference_curve(is_right, scores, n_bins=bins, strategy='uniform')
    return float((np.abs(precision - mean) * numbers[numbers > 0]).sum() / len(scores))


def test_reliability_is_of_the_images_that_were_not_fitted_on(tmp_path: Path) -> None:
    truth, found = scene(5, images=80)
    files = [Path(path) for path in write(tmp_path, truth, found)]
    calibration = study(*files, Settings()).calibration
    fitted_on = set(calibration.calibrator.about['fitted_on_images'])
    seen: list[tuple[float, bool]] = []
    for category in CATEGORIES.values():
        for image, score, iou in outcomes(truth, found, category, 0.5):
            if image not in fitted_on:
                seen.append((score, iou > 0))
    raw, is_right = (np.array(column) for column in zip(*seen, strict=True))
    assert calibration.before['D-ECE'] == pytest.approx(expected_error(raw, is_right), abs=1e-9)
    assert calibration.after['D-ECE'] < calibration.before['D-ECE'] / 2
    precision, mean = reference_curve(is_right, raw, n_bins=10, strategy='uniform')
    drawn = [one for one in calibration_curve(*right(calibration.raw), 10) if one['count']]
    np.testing.assert_allclose([one['avg_accuracy'] for one in drawn], precision, atol=1e-12)
    np.testing.assert_allclose([one['avg_confidence'] for one in drawn], mean, atol=1e-12)


def test_halves_are_the_same_everywhere_and_of_equal_size() -> None:
    ids = list(range(3, 700, 7))
    half = first_half(ids)
    assert half.sum() == len(ids) // 2
    backwards = first_half(ids[::-1])
    np.testing.assert_array_equal(half, backwards[::-1])
    assert (half != first_half(ids, seed=1)).any()
    # sha256 of '0/3', '0/10', ... decides: neither the platform nor numpy's version does
    assert [i for i, chosen in zip(ids[:6], half[:6], strict=True) if chosen] == [10, 24, 31, 38]


def single(score: float = 0.5, **changes: object) -> dict:
    return {'image_id': 3, 'category_id': 5, 'bbox': [1, 2, 10, 10], 'score': score, **changes}


@pytest.mark.parametrize(
    ('found', 'words'),
    [
        ([], 'detections.json is an empty list'),
        ({'images': [], 'annotations': []}, 'list of detections .* It looks like annotations'),
        ([single(image_id=4), single(image_id=5), single()],
         r'2 of 3 detections of .*detections.json are of images that .*annotations.json does not '
         'list: image_id 4, 5. Are they of another data set'),
        ([single(category_id=k) for k in range(90, 99)], 'category_id 90, 91, 92, 93, 94 and 4'),
        ([single(), single(score=1.5)], r'Detection 1 of .* has no score in \[0, 1\]'),
        ([single(score=float('nan'))] * 2, 'has no score .*1 more such detection'),
        ([single(bbox=[1, 2, 3])], 'Detection 0 .*bbox of four finite numbers'),
        ([single(bbox=[1, 2, -3, 4])], 'negative width'),
        ([{'image_id': 3, 'bbox': [0, 0, 1, 1]}], 'has no category_id, score'),
        ([single(image_id='3')], 'image_id 3'),
        ([single(image_id=[3])], 'image_id that is neither'),
        ([7], 'is no mapping'),
    ],
)  # fmt: skip
def test_a_file_that_does_not_belong_is_refused_by_name(
    tmp_path: Path, found: object, words: str
) -> None:
    truth, _ = scene()
    with pytest.raises(SystemExit, match=words):
        run(tmp_path, truth, found)
    assert not (tmp_path / 'out').exists()


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    truth, _ = scene()
    files = write(tmp_path, truth, [])
    Path(files[0]).write_text('[{"image_id"')
    with pytest.raises(SystemExit, match=r'detections\.json is no JSON'):
        main([*files, '--out', str(tmp_path / 'out')])
    with pytest.raises(SystemExit, match=r'No such file.*none\.json'):
        main([str(tmp_path / 'none.json'), files[1], '--out', str(tmp_path / 'out')])


@pytest.mark.parametrize(
    ('option', 'value'), [('--iou', '1.0'), ('--beta', '0'), ('--max-detections', '0')]
)
def test_settings_out_of_range_are_named(tmp_path: Path, option: str, value: str) -> None:
    truth, found = scene()
    with pytest.raises(SystemExit, match=r'Expected argument `\w+` to be'):
        run(tmp_path, truth, found, option, value)


def test_a_class_without_detections_and_one_without_objects(tmp_path: Path) -> None:
    truth, found = scene(6)
    truth['categories'].append({'id': 11, 'name': 'ghost'})
    found = [one for one in found if one['category_id'] != 2]
    got = run(tmp_path, truth, [*found, single(category_id=11)])
    assert got['classes']['cat']['lrp'] is None
    assert got['classes']['cat']['reason'] == 'no detections'
    assert got['classes']['ghost']['reason'] == 'no objects'
    assert got['classes']['bird']['lrp'] is not None
    page = (tmp_path / 'out' / 'report.html').read_text()
    for words in ('No threshold for cat: no detections', 'Calibration: ', 'keep their scores'):
        assert words in page


def test_the_code_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = scene(6, images=40)
    truth['categories'].append({'id': 11, 'name': 'ghost'})
    found.append(single(category_id=11))
    got = run(tmp_path, truth, found)['classes']
    page = (tmp_path / 'out' / 'report.html').read_text()
    code = html.unescape(page.split('<h2>Use it</h2>')[1].split('<code>')[1].split('</code>')[0])
    monkeypatch.chdir(tmp_path / 'out')
    names: dict[str, Any] = {}
    exec(code, names)
    thresholds = {CATEGORIES[name]: got[name]['lrp']['threshold'] for name in CATEGORIES}
    expected = [one for one in found if one['score'] >= thresholds.get(one['category_id'], 1)]
    assert names['kept'] == expected
    assert 0 < len(expected) < len(found)
    assert len(names['calibrated']) > 0


def test_one_image_is_not_calibrated(tmp_path: Path) -> None:
    truth, _ = scene(7, images=1)
    truth['annotations'] = [
        dict(id=1, image_id=3, category_id=5, bbox=[1, 2, 10, 10], area=100, iscrowd=0)
    ]
    got = run(tmp_path, truth, [single()])
    assert got['calibration'] is None
    assert any('there is one image' in note for note in got['notes'])
    assert got['classes']['bird']['f_beta'] == dict(threshold=0.5, value=1, precision=1, recall=1)
    assert not (tmp_path / 'out' / 'calibrator.json').exists()
    with pytest.raises(SystemExit, match=r'c\.json is not written: .*one image'):
        run(tmp_path, truth, [single()], '--calibrated', str(tmp_path / 'c.json'))


def test_equal_scores_are_one_threshold(tmp_path: Path) -> None:
    truth, found = scene(8, images=30)
    got = run(tmp_path, truth, [{**one, 'score': 0.25} for one in found])
    for name, category in CATEGORIES.items():
        everything = counts_at(truth, found, category, 0.5, 0.0)
        assert got['classes'][name]['f_beta']['threshold'] == 0.25
        assert got['classes'][name]['f_beta']['recall'] == pytest.approx(everything.recall, abs=0.2)
    assert any('bird and cat have equal scores only' in note for note in got['notes'])


def test_boxes_outside_their_images_are_pointed_out(tmp_path: Path) -> None:
    truth, found = scene(9)
    far = [single(bbox=[500.0, 500.0, 10.0, 10.0])] * 3
    got = run(tmp_path, truth, [*found, *far])
    assert any(f'3 of {len(found) + 3} detections lie outside' in note for note in got['notes'])


def test_nothing_right_is_said(tmp_path: Path) -> None:
    truth, _ = scene(0)
    got = run(tmp_path, truth, [single(bbox=[99.0, 99.0, 0.5, 0.5])])
    assert got['classes']['bird']['reason'] == 'no detection is right'
    assert got['all_classes']['reason'] == 'no detection is right'


def test_page_needs_nothing_else_and_a_chart_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, found = scene(10, images=40)
    truth['categories'][0]['name'] = '<bird>'
    run(tmp_path, truth, found)
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert page.count('data:image/svg') == 4
    assert '&lt;bird&gt;' in page
    assert '<bird>' not in page
    assert {source[:5] for source in re.findall(r'src="([^"]*)"', page)} == {'data:'}
    assert 'Missing' not in page

    def broken(_: object) -> str:
        raise RuntimeError('injected')

    monkeypatch.setattr(operating_charts, 'reliability_chart', broken)
    assert main([*write(tmp_path, truth, found), '--out', str(tmp_path / 'out')]) == 1
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert page.count('data:image/svg') == 3
    assert 'chart &#34;Reliability&#34;: <code>RuntimeError: injected' in page


def test_a_calibrator_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'c.json').write_text('{"classes": {}}')
    with pytest.raises(ValueError, match=r'`path`.*mmfocalx calibrator 1'):
        load_calibrator(tmp_path / 'c.json')
    with pytest.raises(FileNotFoundError, match=r'none\.json'):
        load_calibrator(tmp_path / 'none.json')
