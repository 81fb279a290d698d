"""How good a classifier is where classes are rare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from mmfocalx.errors import wrong


@METRICS.register_module()
class ClassificationMetric(BaseMetric):
    """Accuracy, macro F1, AUROC, and the recall of each class, 0 to 1, by torchmetrics.

    Reports ``accuracy``, ``macro_f1``, ``auroc`` and ``recall/CLASS``. Of two classes AUROC is
    that of the score of class 1; of more it is the mean over the classes of each against the rest.
    A class without an image has the recall NaN and no part in the mean of AUROC.

    Args:
        collect_device: Where results of several processes are gathered, 'cpu' or 'gpu'.
        prefix: Prefix of the reported names.

    Raises:
        ImportError: if torchmetrics is missing.
    """

    default_prefix = 'classification'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        torchmetrics()

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the scores of a batch.

        Args:
            data_batch: Not used.
            data_samples: One mapping for each image, with ``pred_scores``, ``(C,)``, and
                ``gt_label``.
        """
        for sample in data_samples:
            self.results.append((sample['pred_scores'].cpu(), int(sample['gt_label'])))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The metrics, from what all processes kept.

        Raises:
            ValueError: if the scores are not of as many classes as the data set has.
        """
        classes = self.dataset_meta['classes']
        scores = torch.stack([score for score, _ in results])
        labels = torch.tensor([label for _, label in results])
        num_classes = len(classes)
        if scores.shape[1] != num_classes:
            wrong('num_classes', f'{num_classes}, as the data set has {classes}', scores.shape[1])
        of = torchmetrics()
        recall = of.multiclass_recall(scores, labels, num_classes, average='none')
        counts = labels.bincount(minlength=num_classes)
        numbers = {
            'accuracy': of.multiclass_accuracy(scores, labels, num_classes, average='micro'),
            'macro_f1': of.multiclass_f1_score(scores, labels, num_classes, average='macro'),
            'auroc': auroc(scores, labels),
        }
        for name, value, count in zip(classes, recall, counts, strict=True):
            numbers[f'recall/{name}'] = value if count else math.nan
        return {name: float(value) for name, value in numbers.items()}


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve; NaN if all labels are the same.

    Args:
        scores: ``(N, C)``, the higher the more likely.
        labels: ``(N,)``, 0 to C - 1.
    """
    present = labels.unique().tolist()
    if len(present) < 2:
        return math.nan
    judged = [1] if scores.shape[1] == 2 else present
    binary_auroc = torchmetrics().binary_auroc
    areas = [float(binary_auroc(scores[:, c], (labels == c).long())) for c in judged]
    return sum(areas) / len(areas)


def torchmetrics() -> Any:
    """The functions of torchmetrics, whose import takes seconds.

    Raises:
        ImportError: if it is missing.
    """
    try:
        return import_module('torchmetrics.functional.classification')
    except ImportError as error:
        raise ImportError(
            f'ClassificationMetric cannot be built: {error}. To install: pip install torchmetrics'
        ) from error
