r"""The formulas: elementwise, (N, C) logits and a :class:`Target` to an (N, C) loss.

Throughout, :math:`x` is the logit, :math:`p = \sigma(x)`, and :math:`y` the target score.
None of them weighs, reduces or checks anything.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .targets import Target

PerClass = float | Tensor


def bce(x: Tensor, y: Tensor) -> Tensor:
    r"""Binary cross-entropy with logits, :math:`-y\log p - (1-y)\log(1-p)`."""
    return -y * F.logsigmoid(x) - (1 - y) * F.logsigmoid(-x)


def power(base: Tensor, exponent: PerClass) -> Tensor:
    """``base ** exponent`` for base >= 0 with a finite gradient, 0 where the base vanishes."""
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)


def miss(p: Tensor, y: Tensor) -> Tensor:
    r"""Distance to the target, :math:`1 - p_t = p(1-y) + (1-p)y`, of Lin et al. 2017, eq. 2."""
    return p * (1 - y) + (1 - p) * y


def alpha_factor(y: Tensor, alpha: PerClass | None) -> Tensor | float:
    r"""Class balance :math:`\alpha_t = \alpha y + (1-\alpha)(1-y)`, Lin et al. 2017, sec. 3.1."""
    return 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)


def focal(x: Tensor, t: Target, *, gamma: PerClass = 2.0, alpha: PerClass | None = 0.25) -> Tensor:
    r"""Sigmoid focal loss, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5.

    .. math:: \alpha_t (1-p_t)^\gamma \, \mathrm{BCE}(x, y)

    with soft scores as in mmdet.
    """
    modulation = power(miss(x.sigmoid(), t.score), gamma)
    return alpha_factor(t.score, alpha) * modulation * bce(x, t.score)


def softmax_focal(
    x: Tensor, t: Target, *, gamma: PerClass = 2.0, alpha: PerClass | None = 0.25
) -> Tensor:
    r"""Softmax focal loss, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5 over classes.

    .. math:: y_c \alpha_c (1-p_c)^\gamma (-\log p_c), \quad p = \mathrm{softmax}(x)

    to be summed over c.
    """
    log_p = x.log_softmax(dim=-1)
    loss = t.score * power(-log_p.expm1(), gamma) * -log_p
    return loss if alpha is None else alpha * loss


def varifocal(
    x: Tensor,
    t: Target,
    *,
    alpha: PerClass = 0.75,
    gamma: PerClass = 2.0,
    iou_weighted: bool = True,
) -> Tensor:
    r"""Varifocal loss, Zhang et al. 2021, https://arxiv.org/abs/2008.13367, eq. 2.

    .. math::
        q \, \mathrm{BCE}(x, q) \text{ for positives}, \quad
        \alpha p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without the leading q if not ``iou_weighted``. The gradient passes through p, as in mmdet.
    """
    positive_weight = t.score if iou_weighted else torch.ones_like(t.score)
    negative_weight = alpha * power(x.sigmoid(), gamma)
    return torch.where(t.positive, positive_weight, negative_weight) * bce(x, t.score)


def quality_focal(x: Tensor, t: Target, *, beta: float = 2.0) -> Tensor:
    r"""Quality focal loss, Li et al. 2020, https://arxiv.org/abs/2006.04388, eq. 5.

    .. math:: |y - p|^\beta \, \mathrm{BCE}(x, y)
    """
    return power((t.score - x.sigmoid()).abs(), beta) * bce(x, t.score)
