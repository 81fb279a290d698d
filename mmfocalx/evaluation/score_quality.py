"""What scores are worth: correlation with the IoU, calibration, and the best operating point."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from hotcoco.metrics import calibration_error
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


class OptimalLRP(NamedTuple):
    """Optimal LRP error of a class, all parts in [0, 1], smaller is better.

    Attributes:
        error: The LRP error at the best score threshold; 1 if nothing was found.
        localisation: Mean of 1 - IoU over the true positives; NaN without any.
        false_positive: 1 - precision; NaN without a true positive.
        false_negative: 1 - recall.
        threshold: The best score threshold; NaN without a true positive.
    """

    error: float
    localisation: float
    false_positive: float
    false_negative: float
    threshold: float


def optimal_lrp(
    scores: Values, ious: Values, num_truths: int, iou_threshold: float = 0.5
) -> OptimalLRP:
    r"""The score threshold with the smallest localisation-recall-precision error.

    Oksuz et al. 2021, "One Metric to Measure Them All", https://arxiv.org/abs/2011.10772, eq. 3:

    .. math:: \mathrm{LRP} = \frac{1}{TP + FP + FN}
        \Big(\sum_{TP} \frac{1 - \mathrm{IoU}}{1 - \tau} + FP + FN\Big)

    Only thresholds between different scores are tried: equal scores stay together.

    Args:
        scores: (D,) descending.
        ious: (D,) IoU with the matched object, 0 for a false positive.
        num_truths: Objects of the class; if 0, everything is NaN.
        iou_threshold: The IoU :math:`\tau` that matching asked for.
    """
    if num_truths == 0:
        return OptimalLRP(*[math.nan] * 5)
    hit = ious > 0
    if not hit.any():
        return OptimalLRP(1.0, math.nan, math.nan, 1.0, math.nan)
    true, lost = np.cumsum(hit), np.cumsum(np.where(hit, 1 - ious, 0.0))
    kept = np.arange(1, len(scores) + 1)
    missed = num_truths - true
    error = (lost / (1 - iou_threshold) + (kept - true) + missed) / (kept + missed)
    last_of_equals = np.append(scores[1:] != scores[:-1], True)
    best = int(np.argmin(np.where(last_of_equals & (true > 0), error, np.inf)))
    return OptimalLRP(
        float(error[best]),
        float(lost[best] / true[best]),
        float(1 - true[best] / kept[best]),
        float(missed[best] / num_truths),
        float(scores[best]),
    )


def localisation_aware_ece(scores: Values, ious: Values, num_bins: int = 25) -> float:
    r"""LaECE0: how far scores are from the IoU that they promise, for one class.

    Kuzucu et al. 2024, "On Calibration of Object Detectors", https://arxiv.org/abs/2405.20459:
    :math:`\sum_j \frac{n_j}{n} |\bar p_j - \overline{\mathrm{IoU}}_j|` over equally wide bins of
    the score, each open on its left.

    Args:
        scores: (D,).
        ious: (D,) IoU with the object that the detection is matched to at IoU > 0, else 0.
        num_bins: Number of bins.

    Returns:
        The error in [0, 1]; NaN without detections.
    """
    if len(scores) == 0:
        return math.nan
    index = np.clip(np.ceil(scores * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(index, weights=scores - ious, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(scores))


def detection_ece(scores: Values, ious: Values, num_bins: int = 25) -> float:
    """D-ECE: how far scores are from the precision that they promise.

    Küppers et al. 2020, https://arxiv.org/abs/2004.13546, with the score as the only variable,
    by hotcoco.

    Args:
        scores: (D,).
        ious: (D,) IoU with the object that the detection is matched to at the threshold, else 0.
        num_bins: Number of equally wide bins.

    Returns:
        The error in [0, 1]; NaN without detections.
    """
    if len(scores) == 0:
        return math.nan
    return float(calibration_error(scores, ious > 0, num_bins)[0])


def correlations(scores: Values, ious: Values) -> tuple[float, float]:
    """Spearman's and Pearson's correlation of score and IoU over the matched detections.

    Args:
        scores: (D,).
        ious: (D,) IoU, 0 for a detection without an object, which is left out.

    Returns:
        Both in [-1, 1]; NaN where fewer than two detections, or only equal ones, are matched.
    """
    scores, ious = scores[ious > 0], ious[ious > 0]
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(ious) == 0:
        return math.nan, math.nan
    spearman = float(stats.spearmanr(scores, ious).statistic)
    return spearman, float(stats.pearsonr(scores, ious).statistic)
