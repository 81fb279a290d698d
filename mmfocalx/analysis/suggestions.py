"""Settings of a loss by rules of the literature, from what a data set holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmfocalx.errors import check_number

ALPHA_OF_GAMMA = {0.0: 0.75, 0.1: 0.75, 0.2: 0.75, 0.5: 0.5, 1.0: 0.25, 2.0: 0.25, 5.0: 0.25}
"""The best alpha for each gamma on COCO, Lin et al. 2017, https://arxiv.org/abs/1708.02002, table
1b."""
RETINANET_PRIOR = 0.01

RULES = {
    'inverse foreground': 'alpha = 1 − foreground share, which makes positives and negatives weigh '
    'the same; for gamma 0 (Lin et al. 2017, arXiv 1708.02002, section 3.1)',
    'RetinaNet': 'the best alpha for the gamma on COCO: the more gamma discounts easy negatives, '
    'the less positives need (Lin et al. 2017, arXiv 1708.02002, table 1b)',
    'effective': 'weight of a class = 1 / its effective number of samples, (1 − β^n) / (1 − β) for '
    'n objects, mean 1 (Cui et al. 2019, arXiv 1901.05555, eq. 2 and section 4)',
    'inverse': 'weight of a class = 1 / its number of objects, mean 1 (Cui et al. 2019, arXiv '
    '1901.05555, the case β → 1)',
    'odds': 'Alpha of a class = a·w / (a·w + 1 − a) for its weight w and the scalar a: positives '
    'against negatives weigh w times as much as with a (odds that are multiplied stay in [0, 1])',
    'prior': 'the share of ones among all targets, but not less than RetinaNet’s π = 0.01 '
    '(Lin et al. 2017, arXiv 1708.02002, sections 3.3 and 4.1): bias −log((1 − π) / π)',
}
"""How each suggestion is made, and where from."""


def scalar_alpha(foreground: float) -> float:
    """Weight in [0, 1] of positives against negatives that balances the two."""
    return 1 - check_number('foreground', foreground, low=0, high=1)


def alpha_of_gamma(gamma: float) -> float:
    """The best alpha on COCO for the nearest gamma that was tried there."""
    check_number('gamma', gamma, low=0)
    return ALPHA_OF_GAMMA[min(ALPHA_OF_GAMMA, key=lambda tried: abs(tried - gamma))]


def effective_weights(counts: Sequence[int], beta: float) -> NDArray[np.float64]:
    """(C,) weights of classes by their effective number of samples.

    Args:
        counts: (C,) objects of each class. A class without any gets 1.
        beta: In [0, 1): 0 gives equal weights, towards 1 they approach the inverse frequency.
    """
    beta = check_number('beta', beta, low=0, below=1)
    return _weights((1 - beta ** np.asarray(counts, dtype=np.float64)) / (1 - beta))


def inverse_weights(counts: Sequence[int]) -> NDArray[np.float64]:
    """(C,) weights of classes by the inverse of their objects; a class without any gets 1."""
    return _weights(np.asarray(counts, dtype=np.float64))


def _weights(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverses, with mean 1 over the classes with a number above 0."""
    some = numbers > 0
    weights = np.ones_like(numbers)
    weights[some] = 1 / numbers[some]
    weights[some] /= weights[some].mean() if some.any() else 1
    return weights


def class_alpha(alpha: float, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C,) alpha of each class: the odds of a scalar alpha times the weight of the class."""
    alpha = check_number('alpha', alpha, low=0, high=1)
    return alpha * weights / (alpha * weights + 1 - alpha)


def bias_prior(ones: float) -> float:
    """The score that a classifier starts with: see RULES['prior']; ``ones`` is their share."""
    return max(RETINANET_PRIOR, check_number('ones', ones, low=0, high=1))


class LearningRate(NamedTuple):
    """A hint.

    Attributes:
        value: The learning rate.
        configured: What the config has; None without a config.
        batch_size: Images in a step that it is for, on one device.
        reason: The rule.
    """

    value: float
    configured: float | None
    batch_size: int
    reason: str


def learning_rate(
    optimizer: Mapping[str, Any] | None, batch_size: int = 16, base_batch_size: int | None = None
) -> LearningRate:
    """A learning rate for a batch size.

    Args:
        optimizer: Its config, with ``type`` and ``lr``; None without a config.
        batch_size: Images in a step.
        base_batch_size: The batch size that the config's learning rate was made for, if it says.
    """
    kind = str((optimizer or {}).get('type', 'SGD'))
    configured = (optimizer or {}).get('lr')
    adaptive = 'adam' in kind.lower()
    if configured is not None and base_batch_size:
        start, base, origin = configured, base_batch_size, "the config's, by auto_scale_lr"
    elif adaptive:
        start, base, origin = 1e-4, 16, "DINO's, Zhang et al. 2022, arXiv 2203.03605"
    else:
        start, base, origin = 0.01, 16, "RetinaNet's, Lin et al. 2017, arXiv 1708.02002"
    times = batch_size / base
    rule, factor = 'linear in the batch size (Goyal et al. 2017, arXiv 1706.02677)', times
    if adaptive:
        rule, factor = (
            'as the square root of the batch size (Malladi et al. 2022, arXiv 2205.10330)',
            times**0.5,
        )
    reason = f'{kind}: {start:g} for {base} images ({origin}), {rule}'
    return LearningRate(start * factor, configured, batch_size, reason)
