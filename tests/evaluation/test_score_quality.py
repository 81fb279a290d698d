"""The score-quality metric against counting by hand, and its matching against pycocotools."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hotcoco import COCO
from mmengine.evaluator import Evaluator

from helpers.forkserver import run_ranks
from helpers.score_quality_by_hand import CLASSES, brute_ece, brute_lrp, by_hand, rows, scene
from mmfocalx.evaluation import ScoreQualityMetric
from mmfocalx.evaluation.matching import ANY_OVERLAP, match
from mmfocalx.evaluation.score_quality import localisation_aware_ece, optimal_lrp


def metric_of(tmp_path: Path, truth: dict, **options) -> ScoreQualityMetric:
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(truth))
    metric = ScoreQualityMetric(str(path), **options)
    metric.dataset_meta = {'classes': CLASSES}
    return metric


def test_info_may_hold_anything(tmp_path):
    """Hotcoco's own reader refuses a number where it expects text."""
    truth = {
        'info': {'version': 1},
        'licenses': None,
        'images': [{'id': 4, 'file_name': 'a.jpg', 'width': 9, 'height': 9}],
        'annotations': [],
        'categories': [{'id': 1, 'name': 'a'}],
    }
    assert metric_of(tmp_path, truth).truth.image_index == {4: 0}


def samples(truth: dict, found: list[dict]) -> list[dict]:
    label = {one['id']: k for k, one in enumerate(truth['categories'])}
    out = []
    for image in truth['images']:
        own = [d for d in found if d['image_id'] == image['id']]
        box = torch.tensor([d['bbox'] for d in own], dtype=torch.float64).reshape(-1, 4)
        box[:, 2:] += box[:, :2]
        out.append({'img_id': image['id'], 'pred_instances': {
            'bboxes': box,
            'scores': torch.tensor([d['score'] for d in own], dtype=torch.float64),
            'labels': torch.tensor([label[d['category_id']] for d in own], dtype=torch.int64),
        }})  # fmt: skip
    return out


@pytest.mark.parametrize('seed', range(5))
def test_matches_are_those_of_pycocotools(seed: int) -> None:
    truth, found = scene(seed)
    thresholds = [ANY_OVERLAP, 0.5, 0.75]
    matches = match(COCO(truth), rows(found), [5, 2, 9], thresholds)
    for category in (5, 2, 9):
        for level, threshold in enumerate(thresholds):
            pairs, total = by_hand(truth, found, category, threshold)
            scores, ious = matches[category].at(level)
            got = np.array(sorted(zip(scores, ious, strict=True))).reshape(-1, 2)
            np.testing.assert_allclose(got, np.array(sorted(pairs)).reshape(-1, 2), rtol=1e-9)
            assert matches[category].num_truths == total


@pytest.mark.parametrize('seed', range(5))
def test_every_number_against_counting(tmp_path: Path, seed: int) -> None:
    stats = pytest.importorskip('scipy.stats')
    truth, found = scene(seed)
    metric = metric_of(tmp_path, truth, classwise=True)
    metric.process(None, samples(truth, found))
    got = {k.removeprefix('score_quality/'): v for k, v in metric.evaluate(12).items()}

    pooled, errors, la_eces = [], [], []
    for name, category in (('bird', 5), ('cat', 2)):
        pairs, total = by_hand(truth, found, category, 0.5)
        loose, _ = by_hand(truth, found, category, ANY_OVERLAP)
        lrp = brute_lrp(pairs, total)
        keys = ('oLRP', 'oLRP_loc', 'oLRP_FP', 'oLRP_FN', 'oLRP_threshold')
        parts = [got[f'{key}/{name}'] for key in keys]
        assert parts == pytest.approx(lrp, nan_ok=True)
        la_ece = brute_ece(loose, [iou for _, iou in loose])
        assert got[f'LaECE0/{name}'] == pytest.approx(la_ece)
        kept = [pair for pair in loose if pair[0] >= lrp[-1]]
        assert got[f'LaECE0_kept/{name}'] == pytest.approx(
            brute_ece(kept, [iou for _, iou in kept])
        )
        hits = [(score, iou) for score, iou in pairs if iou]
        assert got[f'spearman/{name}'] == pytest.approx(
            stats.spearmanr(hits, axis=0).statistic, nan_ok=True
        )
        pooled += pairs
        errors.append(lrp[0])
        la_eces.append(la_ece)
    assert math.isnan(got['oLRP/rare'])
    assert got['oLRP'] == pytest.approx(np.mean(errors))
    assert got['LaECE0'] == pytest.approx(np.mean(la_eces))
    hits = np.array([(score, iou) for score, iou in pooled if iou])
    assert got['pearson'] == pytest.approx(np.corrcoef(hits.T)[0, 1])
    assert got['D-ECE'] == pytest.approx(brute_ece(pooled, [iou > 0 for _, iou in pooled]))


def test_optimal_lrp_of_a_case_worked_out_on_paper() -> None:
    # Kept, LRP: the first (0.4 + 2) / 3 = 0.8, two (0.4 + 1 + 2) / 4 = 0.85, three
    # (0.4 + 0.8 + 1 + 1) / 4 = 0.8, four (0.4 + 0.8 + 0.2 + 1) / 4 = 0.6.
    lrp = optimal_lrp(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.8, 0.0, 0.6, 0.9]), 3)
    assert lrp == pytest.approx((0.6, 0.7 / 3, 0.25, 0, 0.6))


def test_equal_scores_are_kept_or_dropped_together() -> None:
    lrp = optimal_lrp(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 1)
    assert lrp.false_positive == pytest.approx(0.5)


def test_calibration_of_scores_that_are_the_iou_is_perfect() -> None:
    scores = np.linspace(0.01, 1, 50)
    assert localisation_aware_ece(scores, scores) == pytest.approx(0)
    assert localisation_aware_ece(scores, np.zeros(50)) == pytest.approx(scores.mean())


def test_nothing_detected_gives_no_numbers_as_with_coco_metric(tmp_path: Path) -> None:
    truth, _ = scene()
    metric = metric_of(tmp_path, truth)
    metric.process(None, samples(truth, []))
    assert metric.evaluate(12) == {}


def test_class_that_the_annotations_lack(tmp_path: Path) -> None:
    truth, found = scene()
    metric = metric_of(tmp_path, truth)
    metric.dataset_meta = {'classes': ('bird', 'dog')}
    metric.process(None, samples(truth, found)[:1])
    with pytest.raises(ValueError, match=r"`ann_file` to be annotations .*\['bird', 'dog'\]"):
        metric.evaluate(1)


@pytest.mark.parametrize(
    ('argument', 'value', 'error', 'expected'),
    [
        ('iou_threshold', 0.0, ValueError, r'a finite number in \(0, 1\), but got 0.0'),
        ('iou_threshold', 1, ValueError, r'a finite number in \(0, 1\), but got 1'),
        ('iou_threshold', math.nan, ValueError, r'a finite number in \(0, 1\), but got nan'),
        ('iou_threshold', '0.5', TypeError, r"a number in \(0, 1\), but got '0.5'"),
        ('num_bins', 0, ValueError, 'an integer of at least 1, but got 0'),
        ('num_bins', 25.0, TypeError, 'an integer of at least 1, but got 25.0'),
        ('max_detections', True, TypeError, 'an integer of at least 1, but got True'),
        ('classwise', 'yes', TypeError, "True or False, but got 'yes'"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, argument: str, value: object, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=f'^Expected argument `{argument}` to be {expected}'):
        metric_of(tmp_path, scene()[0], **{argument: value})


@pytest.mark.parametrize('content', [b'{"images": [', b'[]', b'{"images": []}', b'\xff'])
def test_annotation_file_of_another_format(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / 'annotations.json'
    file.write_bytes(content)
    with pytest.raises(ValueError, match='`ann_file` to be a file of COCO JSON') as caught:
        ScoreQualityMetric(str(file))
    assert repr(str(file)) in str(caught.value)


def evaluate_half(rank: int, folder: Path) -> dict:
    truth, found = scene(1)
    (folder / str(rank)).mkdir()
    evaluator = Evaluator(metric_of(folder / str(rank), truth))
    evaluator.dataset_meta = dict(classes=CLASSES)
    for one in samples(truth, found)[rank::2]:
        evaluator.process([one])
    return evaluator.evaluate(len(truth['images']))


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    halves = run_ranks(evaluate_half, 2, tmp_path, tmp_path)
    truth, found = scene(1)
    metric = metric_of(tmp_path, truth)
    metric.process(None, samples(truth, found))
    alone = metric.evaluate(len(truth['images']))
    for half in halves:
        assert half == pytest.approx(alone)
