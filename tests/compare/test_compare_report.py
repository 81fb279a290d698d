"""The numbers of a comparison's report against independent ones, and the page itself."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from helpers import judged_runs, stub_tools
from mmfocalx.compare import evaluation as judging
from mmfocalx.compare.building import distinct_parts
from mmfocalx.compare.comparison import AP_KINDS, Comparison
from mmfocalx.compare.detections import image_errors
from mmfocalx.compare.evaluation import Evaluation, evaluate, judge
from mmfocalx.compare.html import html_report
from mmfocalx.compare.intervals import (
    Difference,
    Interval,
    image_weights,
    over_images,
    over_seeds,
    resampled_ap,
    spread_of,
)
from mmfocalx.compare.logs import training_curves
from mmfocalx.compare.markdown import markdown_report, spread
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.reporting.wording import number, signed


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Two configs with two seeds each, and one run that failed."""
    root = tmp_path_factory.mktemp('results')
    data = judged_runs.write_dataset(root / 'data', ('disc', 'bar'), images=14)
    made = []
    for k, name in enumerate(('net_focal_1x', 'net_<quality>_1x')):
        config = stub_tools.write_config(root / f'{name}.py', data, step=k)
        for seed in range(2):
            run = Run(name, seed, config, root / name / f'seed{seed}')
            made.append(judged_runs.finish(run, data, 10 * k + seed, 3 - 1.5 * k))
    lost = Run('net_lost_1x', 0, root / 'lost.py', root / 'lost')
    return [*made, Outcome(lost, None, 'training: KeyError: <Lost> is not registered')]


@pytest.fixture(scope='module')
def evaluations(outcomes: list[Outcome]) -> list[Evaluation]:
    return [evaluate(outcome) for outcome in outcomes if outcome.result]


@pytest.fixture
def comparison(outcomes: list[Outcome], tmp_path: Path) -> Comparison:
    return judged_runs.report_on(tmp_path, outcomes).comparison()


def reference_ap(truth: dict, found: list[dict]) -> np.ndarray:
    """(10,) AP by pycocotools at each IoU threshold."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = truth
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    return np.array([level[level >= 0].mean() for level in precision])


def files_of(run: Evaluation) -> tuple[dict, list[dict]]:
    truth = json.loads(Path(run.result['annotations']).read_text())
    found = json.loads((run.run.result_file.parent / 'found.json').read_text())
    return truth, found


def test_ap_is_that_of_pycocotools(evaluations: list[Evaluation]) -> None:
    for run in evaluations:
        by_level = reference_ap(*files_of(run))
        expected = {'mAP': by_level.mean(), 'AP50': by_level[0], 'AP75': by_level[5]}
        assert run.ap == pytest.approx(expected)
        assert np.mean(list(run.class_ap.values())) == pytest.approx(by_level.mean())


def test_images_drawn_again_are_images_that_are_there_several_times(
    evaluations: list[Evaluation],
) -> None:
    run = evaluations[0]
    truth, found = files_of(run)
    weights = image_weights(len(truth['images']), 5, seed=1)
    got = resampled_ap(run.matches, weights)
    for row, ap in zip(weights, got, strict=True):
        drawn: dict = {'images': [], 'annotations': [], 'categories': truth['categories']}
        seen = []
        for image, times in zip(truth['images'], row, strict=True):
            for _ in range(int(times)):
                new = len(drawn['images']) + 1
                drawn['images'].append({**image, 'id': new})
                for one in truth['annotations']:
                    if one['image_id'] == image['id']:
                        number = len(drawn['annotations']) + 1
                        drawn['annotations'].append({**one, 'id': number, 'image_id': new})
                seen += [{**d, 'image_id': new} for d in found if d['image_id'] == image['id']]
        # pycocotools interpolates at recalls that rounding may just miss: a hundredth of the curve
        np.testing.assert_allclose(ap, reference_ap(drawn, seen), atol=0.012)
        assert abs(ap.mean() - reference_ap(drawn, seen).mean()) < 4e-3


def test_draws_are_pairs(evaluations: list[Evaluation]) -> None:
    same = over_images([np.arange(5.0)] * 2, [np.arange(5.0)])
    assert same == (0, 0, 0)
    shifted = over_images([np.array([3.0, 1, 9, 4])], [np.array([1.0, 0, 8, 3])])
    assert shifted.difference == 2
    assert (shifted.low, shifted.high) == (1, 1)
    assert shifted.certain


def test_interval_over_seeds_is_welchs() -> None:
    ours, base = [55.4, 56.6, 60.9], [60.0, 61.0, 62.5]
    got = over_seeds(ours, base)
    a, b = np.var(ours, ddof=1) / 3, np.var(base, ddof=1) / 3
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    from scipy.stats import t

    half = t.ppf(0.975, freedom) * math.sqrt(a + b)
    difference = np.mean(ours) - np.mean(base)
    assert got == pytest.approx((difference, difference - half, difference + half))
    assert math.isnan(over_seeds([1.0], [2.0]).low)


def test_verdict_without_an_interval_over_seeds_says_why() -> None:
    images, none = Interval(2, 1, 3), Interval(2, math.nan, math.nan)
    assert Difference(images, none, [4]).verdict.endswith('one seed says no more')
    assert Difference(images, none, [4, 5]).verdict.endswith('the seeds do not differ')


@pytest.mark.parametrize(
    ('images', 'seeds', 'words'),
    [
        ((2, 1, 3), (2, 0.5, 4), 'better'),
        ((-2, -3, -1), (-2, -3, -1), 'worse'),
        ((2, 1, 3), (2, -1, 4), 'not beyond seed noise'),
        ((2, -1, 3), (2, 1, 4), 'not certain'),
    ],
)
def test_verdict_needs_both_intervals(images: tuple, seeds: tuple, words: str) -> None:
    assert words in Difference(Interval(*images), Interval(*seeds), [0, 1]).verdict


def test_image_errors_add_up_to_the_lrp_of_a_class(evaluations: list[Evaluation]) -> None:
    run = evaluations[0]
    for name in run.matches:
        alone = Evaluation(**{**vars(run), 'matches': {name: run.matches[name]}})
        lost, total = image_errors(alone)
        assert lost.sum() / total.sum() == pytest.approx(run.quality[f'oLRP/{name}'])


def test_labels_are_what_differs() -> None:
    names = ['retinanet_r18_focal_1x', 'retinanet_r18_quality-focal_1x']
    assert distinct_parts(names) == ['focal', 'quality-focal']
    assert distinct_parts(['a_b']) == ['a_b']
    assert distinct_parts(['a', 'a_b']) == ['a', 'a_b']


def test_resumed_training_has_one_curve(tmp_path: Path) -> None:
    for stamp, epochs in (('1', (1, 2)), ('2', (2, 3))):
        (tmp_path / stamp / 'vis_data').mkdir(parents=True)
        rows = [json.dumps({'loss': float(stamp), 'epoch': e, 'step': 1}) for e in epochs]
        text = '\n'.join([*rows, '{"loss": 1.0, "ep'])
        (tmp_path / stamp / 'vis_data' / 'scalars.json').write_text(text)
    assert training_curves(tmp_path) == ({1: 1.0, 2: 2.0, 3: 2.0}, {})


def test_page_needs_nothing_else(comparison: Comparison) -> None:
    assert [variant.label for variant in comparison.groups[0].variants] == ['focal', '<quality>']
    page = html_report(comparison)
    assert comparison.gaps == []
    assert 'Missing' not in page
    assert len(page.encode()) < 3e6
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert {source for source in sources if not source.startswith('#')} == {'data:'}
    assert page.count('data:image/svg') == 10
    assert page.count('data:image/jpeg') >= 2
    assert '&lt;quality&gt;' in page
    assert '<quality>' not in page
    assert 'KeyError: &lt;Lost&gt; is not registered' in page
    text = markdown_report(comparison)
    for variant in comparison.variants:
        assert variant.name in text
    assert 'is not registered' in text


def test_spread_over_seeds_is_that_of_numpy(
    comparison: Comparison, evaluations: list[Evaluation]
) -> None:
    for variant in comparison.variants:
        for kind in AP_KINDS:
            values = [100 * e.ap[kind] for e in evaluations if e.run.name == variant.name]
            expected = np.mean(values), np.std(values, ddof=1), 2, 2
            assert variant.ap[kind] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ('values', 'expected', 'shown'),
    [
        ([0.5, math.nan], (0.5, math.nan, 1, 2), '0.5 (1 of 2)'),
        ([math.nan, math.nan], (math.nan, math.nan, 0, 2), '–'),
        ([], (math.nan, math.nan, 0, 0), '–'),
        ([1.0, math.inf, 3.0], (2.0, math.sqrt(2), 2, 3), '2.0 ± 1.4 (2 of 3)'),
        ([4.0], (4.0, math.nan, 1, 1), '4.0'),
    ],
)
def test_a_number_that_some_seeds_lack(values: list, expected: tuple, shown: str) -> None:
    assert spread_of(values) == pytest.approx(expected, nan_ok=True)
    assert spread(spread_of(values)) == shown


def test_a_run_is_judged_once(outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Mock(side_effect=evaluate)
    monkeypatch.setattr(judging, 'evaluate', counted)
    outcome = outcomes[0]
    folder = outcome.run.result_file.parent
    (folder / 'judged.npz').unlink(missing_ok=True)
    first, again = judge(outcome), judge(outcome)
    counted.assert_called_once()
    assert not any(math.isnan(value) for value in first.tide.values())
    assert (again.class_ap, again.tide) == (first.class_ap, first.tide)
    assert again.quality == pytest.approx(first.quality, rel=0, abs=0, nan_ok=True)
    for name in judging.STORED_ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    for name, matches in first.matches.items():
        for key, array in vars(matches).items():
            kept = getattr(again.matches[name], key)
            assert kept.dtype == array.dtype
            np.testing.assert_array_equal(kept, array)

    (folder / 'judged.npz').write_bytes((folder / 'judged.npz').read_bytes()[:-40])
    assert judge(outcome).ap == first.ap  # a torn file is made anew
    assert counted.call_count == 2
    found = json.loads((folder / 'found.json').read_text())
    (folder / 'found.json').write_text(json.dumps(found[::2]))
    assert judge(outcome).ap != first.ap
    (folder / 'found.json').write_text(json.dumps(found))


def test_zero_has_no_sign() -> None:
    assert [number(value) for value in (-0.04, 0.04, -0.06, math.nan)] == [
        '0.0',
        '0.0',
        '-0.1',
        '–',
    ]
    assert [signed(value) for value in (-0.04, -1.26, math.nan)] == ['+0.0', '−1.3', '–']
