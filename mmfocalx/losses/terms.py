r"""The terms that several formulas share: elementwise, of (N, C) logits and their targets.

Throughout, :math:`x` is the logit, :math:`p = \sigma(x)`, :math:`y` the target score, and ``f`` the
elementary functions to use. None of the terms weighs, reduces or checks anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Target
from .one_pass.elementary import NEGLIGIBLE, Elementary, PerClass


def modulation(x: Tensor, t: Target, f: Elementary, gamma: PerClass) -> Tensor:
    r"""Focusing factor :math:`(1-p_t)^\gamma` of Lin et al. 2017, eq. 4.

    Of soft targets, :math:`1 - p_t = p(1-y) + (1-p)y` as in mmdet.
    """
    if t.hard:
        return _power_of_sigmoid(_logit_of_miss(x, t), f, gamma)
    p = f.sigmoid(x)
    return f.power(torch.addcmul(p, t.score, 1 - 2 * p), gamma)


def alpha_factor(y: Tensor, alpha: PerClass | None) -> Tensor | float:
    r"""Class balance :math:`\alpha_t = \alpha y + (1-\alpha)(1-y)`, Lin et al. 2017, sec. 3.1."""
    return 1.0 if alpha is None else (1 - alpha) + (2 * alpha - 1) * y


def focal(
    x: Tensor, t: Target, f: Elementary, *, gamma: PerClass, alpha: PerClass | None
) -> Tensor:
    r"""Sigmoid focal loss :math:`\alpha_t (1-p_t)^\gamma \, \mathrm{BCE}(x, y)`."""
    if not t.hard:
        return alpha_factor(t.score, alpha) * modulation(x, t, f, gamma) * f.bce(x, t.score)
    miss = _logit_of_miss(x, t)
    return alpha_factor(t.score, alpha) * _power_of_sigmoid(miss, f, gamma) * f.softplus(miss)


def sharpened(t: Target, f: Elementary, exponent: float) -> Tensor:
    """Target score, that of matched entries raised to a power."""
    return t.score if t.hard else torch.where(t.matched, f.power(t.score, exponent), t.score)


def _logit_of_miss(x: Tensor, t: Target) -> Tensor:
    r"""Logit of :math:`1 - p_t` of hard targets: x of negatives, -x of positives."""
    return torch.where(t.matched, -1.0, 1.0) * x


def _power_of_sigmoid(x: Tensor, f: Elementary, exponent: PerClass) -> Tensor:
    if not isinstance(exponent, Tensor):
        return f.power(f.sigmoid(x), exponent)
    logarithm = exponent * f.log_sigmoid(x)
    return torch.where(logarithm > NEGLIGIBLE, f.exp(logarithm), 0.0)
