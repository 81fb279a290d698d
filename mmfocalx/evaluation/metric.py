"""The metric that stands beside CocoMetric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from mmfocalx.annotations import (
    check_for_coco_metric,
    check_some_count,
    read_annotations,
    warn,
)
from mmfocalx.errors import check_bool, check_integer, check_number, wrong
from mmfocalx.evaluation.ground_truth import indexed
from mmfocalx.evaluation.matching import ANY_OVERLAP, ClassMatches, match
from mmfocalx.evaluation.score_quality import (
    correlations,
    detection_ece,
    localisation_aware_ece,
    optimal_lrp,
)


@METRICS.register_module()
class ScoreQualityMetric(BaseMetric):
    """Do the scores rank detections by their IoU, and can they be read as probabilities?

    Reports ``spearman`` and ``pearson`` (correlation of score and IoU over the matched
    detections), ``LaECE0``, ``D-ECE`` and ``oLRP`` with ``oLRP_loc``, ``oLRP_FP`` and ``oLRP_FN``;
    :mod:`mmfocalx.evaluation.score_quality` defines each. Calibration errors are computed over all
    detections, and as ``..._kept`` over those that the optimal LRP threshold of their class keeps.
    Correlations and D-ECE pool the classes, LaECE0 and oLRP are means over the classes.

    A validation without a single detection gives no numbers and a warning, as with CocoMetric, so
    that ``save_best`` passes it over.

    Args:
        ann_file: COCO annotation file of the data set that is evaluated. One without a list of
            annotations, as test splits have, gives NaN.
        iou_threshold: IoU that a match needs, except for LaECE0.
        num_bins: Score bins of the calibration errors.
        max_detections: Detections kept for each image and class.
        classwise: Report every class too, as ``NAME/CLASS``, and its ``oLRP_threshold``.
        collect_device: Where results of several processes are gathered, 'cpu' or 'gpu'.
        prefix: Prefix of the reported names.
        backend_args: Arguments of the storage backend of ``ann_file``, as in mmdet's configs.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it; for an
            annotation file that this metric, or CocoMetric beside it, cannot evaluate; and for
            detections on an image that the file does not list.
        FileNotFoundError: if there is no annotation file.
    """

    default_prefix = 'score_quality'

    def __init__(
        self,
        ann_file: str,
        iou_threshold: float = 0.5,
        num_bins: int = 25,
        max_detections: int = 100,
        classwise: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_threshold = check_number('iou_threshold', iou_threshold, above=0, below=1)
        self.num_bins = check_integer('num_bins', num_bins, low=1)
        self.max_detections = check_integer('max_detections', max_detections, low=1)
        self.classwise = check_bool('classwise', classwise)
        file = read_annotations(ann_file, backend_args)
        check_for_coco_metric(file)
        check_some_count(file, file.category_names.values())
        self.truth = indexed(file)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the detections of a batch.

        Args:
            data_batch: Not used.
            data_samples: One mapping for each image, with ``img_id`` and ``pred_instances``:
                ``bboxes`` (n, 4) as x1, y1, x2, y2 in pixels of the original image, ``scores``
                (n,) and ``labels`` (n,).
        """
        for sample in data_samples:
            found = sample['pred_instances']
            boxes, scores, labels = (
                found[key].cpu().numpy() for key in ('bboxes', 'scores', 'labels')
            )
            image = self.truth.image(sample['img_id']) if len(scores) else 0
            self.results.append((image, boxes, scores, labels))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """The metrics, from what all processes kept."""
        classes = self._classes()
        detections = to_detections(results, list(classes))
        if not len(detections):
            warn('ScoreQualityMetric: there is no detection.')
            return {}
        matches = match(
            self.truth.coco, detections, list(classes), [self.iou_threshold, ANY_OVERLAP],
            self.max_detections,
        )  # fmt: skip
        return score_quality(
            {name: matches[class_id] for class_id, name in classes.items()},
            self.iou_threshold, self.num_bins, self.classwise,
        )  # fmt: skip

    def _classes(self) -> dict[int, str]:
        """Class indices and names in the order of mmdet's labels: the annotation file's."""
        names, found = self.dataset_meta['classes'], self.truth.class_names
        if not {*names} <= {*found}:
            wrong('ann_file', f'annotations with the categories {[*names]}', found)
        return {index: name for index, name in enumerate(found) if name in names}


def to_detections(results: Sequence[Any], class_ids: Sequence[int]) -> NDArray[np.float64]:
    """(N, 7) rows of image index, x, y, width, height, score, class index."""
    rows = [
        np.column_stack(
            (
                np.full(len(scores), image, dtype=np.float64),
                boxes[:, :2], boxes[:, 2:] - boxes[:, :2],
                scores, np.array(class_ids)[labels],
            )
        )
        for image, boxes, scores, labels in results
    ]  # fmt: skip
    return np.concatenate(rows) if rows else np.zeros((0, 7))


def score_quality(
    matches: Mapping[str, ClassMatches],
    iou_threshold: float = 0.5,
    num_bins: int = 25,
    classwise: bool = False,
) -> dict[str, float]:
    """All numbers of :class:`ScoreQualityMetric`.

    Args:
        matches: For each class its matches at two thresholds: ``iou_threshold`` and
            :data:`~mmfocalx.evaluation.matching.ANY_OVERLAP`.
        iou_threshold: The first of them.
        num_bins: Score bins of the calibration errors.
        classwise: Add the numbers of every class.
    """
    per_class = {name: _of_class(one, iou_threshold, num_bins) for name, one in matches.items()}
    pooled = _pooled([one.at(0) for one in matches.values()])
    kept = _pooled(
        [_kept(one.at(0), per_class[name]['oLRP_threshold']) for name, one in matches.items()]
    )
    spearman, pearson = correlations(*pooled)
    overall = {
        'spearman': spearman,
        'pearson': pearson,
        'D-ECE': detection_ece(*pooled, num_bins),
        'D-ECE_kept': detection_ece(*kept, num_bins),
    }
    for key in ('LaECE0', 'LaECE0_kept', 'oLRP', 'oLRP_loc', 'oLRP_FP', 'oLRP_FN'):
        values = [one[key] for one in per_class.values() if not math.isnan(one[key])]
        overall[key] = float(np.mean(values)) if values else math.nan
    if classwise:
        for name, numbers in per_class.items():
            overall.update({f'{key}/{name}': value for key, value in numbers.items()})
    return overall


def _of_class(one: ClassMatches, iou_threshold: float, num_bins: int) -> dict[str, float]:
    strict, loose = one.at(0), one.at(1)
    lrp = optimal_lrp(*strict, one.num_truths, iou_threshold)
    spearman, pearson = correlations(*strict)
    return {
        'spearman': spearman,
        'pearson': pearson,
        'D-ECE': detection_ece(*strict, num_bins),
        'D-ECE_kept': detection_ece(*_kept(strict, lrp.threshold), num_bins),
        'LaECE0': localisation_aware_ece(*loose, num_bins),
        'LaECE0_kept': localisation_aware_ece(*_kept(loose, lrp.threshold), num_bins),
        'oLRP': lrp.error,
        'oLRP_loc': lrp.localisation,
        'oLRP_FP': lrp.false_positive,
        'oLRP_FN': lrp.false_negative,
        'oLRP_threshold': lrp.threshold,
    }


Pairs = tuple[NDArray[np.float64], NDArray[np.float64]]


def _kept(pairs: Pairs, threshold: float) -> Pairs:
    keep = pairs[0] >= threshold  # NaN keeps nothing
    return pairs[0][keep], pairs[1][keep]


def _pooled(pairs: Sequence[Pairs]) -> Pairs:
    empty = np.zeros(0)
    return (
        np.concatenate([empty, *(scores for scores, _ in pairs)]),
        np.concatenate([empty, *(ious for _, ious in pairs)]),
    )
