"""From which score on to keep detections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmfocalx.evaluation.score_quality import optimal_lrp

Values = NDArray[np.float64]


class OperatingPoint(NamedTuple):
    """What keeping every detection that scores at least ``threshold`` gives.

    Attributes:
        threshold: The smallest score that is kept.
        value: What the threshold is best in: the F-beta score, or the LRP error.
        precision: The share of the kept detections that are right.
        recall: The share of the objects that are found.
    """

    threshold: float
    value: float
    precision: float
    recall: float


def best_f_beta(
    scores: Values, ious: Values, num_truths: int, beta: float = 1.0
) -> OperatingPoint | None:
    r"""The threshold with the largest F-beta score; the highest one of several.

    Van Rijsbergen 1979, "Information Retrieval", chapter 7, with precision P and recall R:

    .. math:: F_\beta = \frac{(1 + \beta^2) P R}{\beta^2 P + R}
        = \frac{(1 + \beta^2) TP}{\beta^2 (TP + FN) + TP + FP}

    Only thresholds between different scores are tried: equal scores stay together.

    Args:
        scores: (D,) descending.
        ious: (D,) IoU with the matched object, 0 for a false positive.
        num_truths: Objects.
        beta: How many times as much as precision recall counts.

    Returns:
        None if no detection is right.
    """
    hit = ious > 0
    if not hit.any():
        return None
    true = np.cumsum(hit)
    kept = np.arange(1, len(scores) + 1)
    value = (1 + beta**2) * true / (beta**2 * num_truths + kept)
    last_of_equals = np.append(scores[1:] != scores[:-1], True)
    best = int(np.argmax(np.where(last_of_equals, value, -np.inf)))
    return OperatingPoint(
        float(scores[best]),
        float(value[best]),
        float(true[best] / kept[best]),
        float(true[best] / num_truths),
    )


def best_lrp(
    scores: Values, ious: Values, num_truths: int, iou_threshold: float
) -> OperatingPoint | None:
    """The threshold with the smallest LRP error: see :func:`optimal_lrp`; None without a match."""
    if not (ious > 0).any():
        return None
    found = optimal_lrp(scores, ious, num_truths, iou_threshold)
    return OperatingPoint(
        found.threshold, found.error, 1 - found.false_positive, 1 - found.false_negative
    )
