"""The numbers of scikit-learn on the same predictions; two ranks give those of one process."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from mmengine.structures import BaseDataElement

pytest.importorskip('torchmetrics')
truth = pytest.importorskip('sklearn.metrics')

import mmfocalx  # noqa: E402, F401  (registers)
from helpers.forkserver import run_ranks  # noqa: E402

IMAGES = 37


def predictions(classes, kind, seed=0):
    """Scores that know a little, and labels of which the last classes are rare."""
    g = torch.Generator().manual_seed(seed)
    share = torch.tensor([8.0, 3.0, 2.0, 1.0])[:classes]
    labels = torch.multinomial(share, IMAGES, replacement=True, generator=g)
    labels[:classes] = torch.arange(classes)
    logits = torch.randn(IMAGES, classes, generator=g)
    logits[torch.arange(IMAGES), labels] += 0.7
    if kind == 'ties':
        logits = logits.round()
    scores = logits.sigmoid() if kind == 'sigmoid' else logits.softmax(dim=1)
    return scores, labels


def evaluate(scores, labels, names=None, batch=5):
    """The metrics through an Evaluator, as a loop of MMEngine calls it."""
    names = names or [f'class{c}' for c in range(scores.shape[1])]
    evaluator = Evaluator(METRICS.build(dict(type='ClassificationMetric')))
    evaluator.dataset_meta = dict(classes=tuple(names))
    for begin in range(0, len(scores), batch):
        samples = []
        for i in range(begin, min(begin + batch, len(scores))):
            sample = BaseDataElement(metainfo=dict(img_path=f'{i}.png'))
            sample.set_data(dict(pred_scores=scores[i], gt_label=int(labels[i])))
            samples.append(sample)
        evaluator.process(samples)
    return evaluator.evaluate(len(scores))


def by_scikit_learn(scores, labels):
    scores, labels = scores.double().numpy(), labels.numpy()
    chosen = scores.argmax(axis=1)
    if scores.shape[1] == 2:
        auroc = truth.roc_auc_score(labels, scores[:, 1])
    else:
        areas = [truth.roc_auc_score(labels == c, scores[:, c]) for c in range(scores.shape[1])]
        auroc = np.mean(areas)
    recall = truth.recall_score(labels, chosen, average=None)
    return {
        'classification/accuracy': truth.accuracy_score(labels, chosen),
        'classification/macro_f1': truth.f1_score(labels, chosen, average='macro'),
        'classification/auroc': auroc,
        **{f'classification/recall/class{c}': value for c, value in enumerate(recall)},
    }


@pytest.mark.parametrize('classes', [2, 3, 4])
@pytest.mark.parametrize('kind', ['softmax', 'sigmoid', 'ties'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_numbers_are_those_of_scikit_learn(classes, kind, seed):
    scores, labels = predictions(classes, kind, seed)
    assert evaluate(scores, labels) == pytest.approx(by_scikit_learn(scores, labels), abs=1e-6)


def test_auroc_of_softmax_scores_is_scikit_learns_one_against_the_rest():
    scores, labels = predictions(4, 'softmax')
    expected = truth.roc_auc_score(
        labels.numpy(), scores.double().numpy(), multi_class='ovr', average='macro'
    )
    assert evaluate(scores, labels)['classification/auroc'] == pytest.approx(expected, abs=1e-6)


def test_a_class_without_images_has_no_part():
    scores, labels = predictions(4, 'softmax')
    labels[labels == 3] = 0
    found = evaluate(scores, labels)
    areas = [truth.roc_auc_score((labels == c).numpy(), scores[:, c].numpy()) for c in range(3)]
    assert found['classification/auroc'] == pytest.approx(np.mean(areas), abs=1e-6)
    assert math.isnan(found['classification/recall/class3'])
    assert math.isfinite(found['classification/recall/class2'])


def test_one_class_alone_has_no_auroc():
    scores, labels = predictions(2, 'softmax')
    assert math.isnan(evaluate(scores, torch.zeros_like(labels))['classification/auroc'])


def test_scores_of_another_number_of_classes_are_named():
    scores, labels = predictions(3, 'softmax')
    with pytest.raises(ValueError, match=r"`num_classes` to be 2, .*'cat', 'dog'.*got 3"):
        evaluate(scores, labels, names=['cat', 'dog'])


def test_missing_torchmetrics_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchmetrics', None)
    monkeypatch.setitem(sys.modules, 'torchmetrics.functional.classification', None)
    with pytest.raises(ImportError, match=r'ClassificationMetric.*pip install torchmetrics'):
        METRICS.build(dict(type='ClassificationMetric'))


def evaluate_on_a_rank(rank):
    """Every second image, as MMEngine's DefaultSampler hands them out: padded to equal length."""
    assert get_rank() == rank
    scores, labels = predictions(3, 'softmax')
    mine = [i % IMAGES for i in range(rank, IMAGES + IMAGES % 2, 2)]
    names = [f'class{c}' for c in range(3)]
    evaluator = Evaluator(METRICS.build(dict(type='ClassificationMetric')))
    evaluator.dataset_meta = dict(classes=tuple(names))
    for i in mine:
        evaluator.process([dict(pred_scores=scores[i], gt_label=int(labels[i]))])
    return evaluator.evaluate(IMAGES)


def test_two_ranks_give_what_one_process_gives(tmp_path):
    expected = evaluate(*predictions(3, 'softmax'))
    assert IMAGES % 2  # the last image of one rank is padding
    for found in run_ranks(evaluate_on_a_rank, 2, tmp_path):
        assert found == expected
