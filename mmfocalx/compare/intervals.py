"""How far a number may be luck: its spread over seeds, and images drawn again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mmfocalx.evaluation.matching import ANY_OVERLAP, ClassMatches

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MATCH_LEVELS = (IOU_THRESHOLDS[0], ANY_OVERLAP, *IOU_THRESHOLDS[1:])
"""The thresholds of the matches; those of AP are :data:`AP_LEVELS` of them."""
AP_LEVELS = (0, *range(2, 11))
_CHUNK = 250


def image_weights(num_images: int, replicates: int, seed: int = 0) -> NDArray[np.float32]:
    """(R, I) how often each image is drawn when as many as there are are drawn again."""
    rng = np.random.default_rng(seed)
    even = np.full(num_images, 1 / num_images)
    return rng.multinomial(num_images, even, size=replicates).astype(np.float32)


def resampled_ap(
    matches: Mapping[str, ClassMatches], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """COCO's AP, mean over classes, as if every image were there as often as its weight says.

    Args:
        matches: Of each class name, at :data:`MATCH_LEVELS`, the matches in the I images.
        weights: (R, I).

    Returns:
        (R, 10) AP at each IoU threshold; NaN where no object was drawn.
    """
    chunks = np.array_split(weights, max(1, math.ceil(len(weights) / _CHUNK)))
    return np.concatenate(
        [
            np.nanmean([class_ap(found, chunk) for found in matches.values()], axis=0)
            for chunk in chunks
        ]
    )


def class_ap(matches: ClassMatches, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """(R, 10) AP of one class; NaN where a draw has none of its objects."""
    drawn_truths = weights @ matches.truths.astype(np.float32)
    right = matches.ious[list(AP_LEVELS)] > 0
    end = int(np.flatnonzero(right.any(axis=0))[-1]) + 1 if right.any() else 0
    drawn = np.ascontiguousarray(weights.T)[matches.images[:end]]  # what follows changes nothing
    all_drawn = np.cumsum(drawn, axis=0)
    ap = np.zeros((len(AP_LEVELS), len(weights)))
    for row, level in enumerate(AP_LEVELS):
        hits = np.flatnonzero(right[row])
        counted = matches.counted[level, :end]
        found = all_drawn if counted.all() else np.cumsum(drawn * counted[:, None], axis=0)
        true = np.cumsum(drawn[hits], axis=0)
        precision = true / np.maximum(found[hits], 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        # How many of the recall thresholds 0, 0.01, ... 1 each true positive reaches.
        hundredths = np.floor(true * (100 / np.maximum(drawn_truths, 1)) + 1e-4)
        hundredths[1:] -= hundredths[:-1].copy()
        hundredths[:1] += 1
        ap[row] = np.einsum('nr,nr->r', envelope, hundredths) / 101
    ap[:, drawn_truths == 0] = math.nan
    return ap.T


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds.

    Attributes:
        mean: Over the seeds that have the number; NaN if none has.
        sd: NaN if fewer than two have it.
        used: Seeds that have the number.
        given: All seeds.
    """

    mean: float
    sd: float
    used: int
    given: int


def spread_of(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    return Spread(
        statistics.fmean(finite) if finite else math.nan,
        statistics.stdev(finite) if len(finite) > 1 else math.nan,
        len(finite),
        len(values),
    )


class Interval(NamedTuple):
    """A difference with the bounds of its 95 % interval (NaN where there is none)."""

    difference: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


LEGEND = (
    'Better and worse: both intervals are on one side of 0. Not beyond seed noise: the one over '
    'images is, the one over seeds is not. Not certain: the one over images contains 0.'
)


class Difference(NamedTuple):
    """A difference of means over the seeds that both have.

    Attributes:
        over_images: With the interval over images.
        over_seeds: With the interval over seeds.
        seeds: Those that both have.
    """

    over_images: Interval
    over_seeds: Interval
    seeds: list[int]

    @property
    def verdict(self) -> str:
        """What both intervals say together; 'better' and 'worse' are certain."""
        word = 'better' if self.over_images.difference > 0 else 'worse'
        if self.over_images.certain and self.over_seeds.certain:
            return word
        if self.over_images.certain and math.isnan(self.over_seeds.low):
            why = 'one seed says no more' if len(self.seeds) < 2 else 'the seeds do not differ'
            return f'{word} on these images; {why}'
        return 'not beyond seed noise' if self.over_images.certain else 'not certain'

    @property
    def verdict_on_images(self) -> str:
        """What the interval over images says alone."""
        if not self.over_images.certain:
            return 'not certain'
        return f'{"better" if self.over_images.difference > 0 else "worse"} on these images'


def over_images(
    ours: Sequence[NDArray[np.float64]], base: Sequence[NDArray[np.float64]]
) -> Interval:
    """Paired percentile bootstrap of the mean over seeds.

    Args:
        ours: For each seed (1 + R,) AP: of the images as they are, then of the R draws.
        base: The same of the baseline, of the same draws.
    """
    difference = np.mean(ours, axis=0) - np.mean(base, axis=0)
    low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
    return Interval(float(difference[0]), float(low), float(high))


def over_seeds(ours: Sequence[float], base: Sequence[float]) -> Interval:
    """Welch's t interval of the difference of two means of independent trainings."""
    difference = float(np.mean(ours) - np.mean(base))
    if min(len(ours), len(base)) < 2 or np.ptp(ours) + np.ptp(base) == 0:
        return Interval(difference, math.nan, math.nan)
    interval = stats.ttest_ind(ours, base, equal_var=False).confidence_interval()
    return Interval(difference, float(interval.low), float(interval.high))
