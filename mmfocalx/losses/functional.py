r"""The formulas: elementwise, (N, C) logits and a :class:`Target` to an (N, C) loss.

Throughout, :math:`x` is the logit, :math:`p = \sigma(x)`, and :math:`y` the target score.
None of them weighs, reduces or checks anything.
"""

from __future__ import annotations

import torch
from torch import Tensor, no_grad

from .elementary import (
    NEGLIGIBLE,
    PerClass,
    bce,
    log_not_sigmoid,
    log_not_sigmoid_plus,
    log_sigmoid,
    not_sigmoid,
    power,
    sigmoid,
    softplus,
)
from .targets import Target


def logit_of_miss(x: Tensor, t: Target) -> Tensor:
    r"""Logit of :math:`1 - p_t` of hard targets: x of negatives, -x of positives."""
    return (1 - 2 * t.score) * x


def modulation(x: Tensor, t: Target, gamma: PerClass) -> Tensor:
    r"""Focusing factor :math:`(1-p_t)^\gamma` of Lin et al. 2017, eq. 4.

    Of soft targets, :math:`1 - p_t = p(1-y) + (1-p)y` as in mmdet.
    """
    if not t.hard:
        p = sigmoid(x)
        return power(torch.addcmul(p, t.score, 1 - 2 * p), gamma)
    miss = logit_of_miss(x, t)
    if isinstance(gamma, Tensor):
        exponent = gamma * log_sigmoid(miss)
        return torch.where(exponent > NEGLIGIBLE, exponent.exp(), 0.0)
    return power(sigmoid(miss), gamma)


def cross_entropy(x: Tensor, t: Target) -> Tensor:
    """Binary cross-entropy with the target score."""
    return softplus(logit_of_miss(x, t)) if t.hard else bce(x, t.score)


def sharpened(t: Target, exponent: float) -> Tensor:
    """Target score, that of positives raised to a power."""
    return t.score if t.hard else torch.where(t.positive, power(t.score, exponent), t.score)


def alpha_factor(y: Tensor, alpha: PerClass | None) -> Tensor | float:
    r"""Class balance :math:`\alpha_t = \alpha y + (1-\alpha)(1-y)`, Lin et al. 2017, sec. 3.1."""
    return 1.0 if alpha is None else (1 - alpha) + (2 * alpha - 1) * y


def focal(x: Tensor, t: Target, *, gamma: PerClass = 2.0, alpha: PerClass | None = 0.25) -> Tensor:
    r"""Sigmoid focal loss, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5.

    .. math:: \alpha_t (1-p_t)^\gamma \, \mathrm{BCE}(x, y)
    """
    return alpha_factor(t.score, alpha) * modulation(x, t, gamma) * cross_entropy(x, t)


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
    negative_weight = alpha * power(sigmoid(x), gamma)
    return torch.where(t.positive, positive_weight, negative_weight) * bce(x, t.score)


def quality_focal(x: Tensor, t: Target, *, beta: float = 2.0) -> Tensor:
    r"""Quality focal loss, Li et al. 2020, https://arxiv.org/abs/2006.04388, eq. 2.

    .. math:: |y - p|^\beta \, \mathrm{BCE}(x, y)
    """
    return power((t.score - sigmoid(x)).abs(), beta) * bce(x, t.score)


def poly_focal(
    x: Tensor,
    t: Target,
    *,
    gamma: PerClass = 2.0,
    alpha: PerClass | None = 0.25,
    epsilon: float = 1.0,
) -> Tensor:
    r"""Poly-1 focal loss, Leng et al. 2022, https://arxiv.org/abs/2204.12511, its Poly-1 form.

    .. math:: \mathrm{focal}(x, y) + \epsilon \, \alpha_t (1-p_t)^{\gamma+1}
    """
    extra = epsilon * modulation(x, t, gamma + 1)
    return focal(x, t, gamma=gamma, alpha=alpha) + alpha_factor(t.score, alpha) * extra


def asymmetric(
    x: Tensor,
    t: Target,
    *,
    gamma_pos: float = 1.0,
    gamma_neg: float = 4.0,
    clip: float = 0.05,
) -> Tensor:
    r"""Asymmetric loss, Ridnik et al. 2021, https://arxiv.org/abs/2009.14119, eq. 7.

    .. math::
        -y (1-p)^{\gamma_+} \log p - (1-y) m^{\gamma_-} \log(1-m), \quad m = \max(p - c, 0)
    """
    p, not_p = sigmoid(x), not_sigmoid(x)
    positive = -power(not_p, gamma_pos) * log_sigmoid(x)
    if clip == 0:
        negative = -power(p, gamma_neg) * log_not_sigmoid(x)
    else:
        hard = p > clip
        shifted = torch.where(hard, p - clip, 0.0)
        log_miss = torch.where(hard, log_not_sigmoid_plus(x, not_p, clip), 0.0)
        negative = -power(shifted, gamma_neg) * log_miss
    return t.score * positive + (1 - t.score) * negative


def matchability_aware(
    x: Tensor, t: Target, *, gamma: float = 1.5, alpha: PerClass | None = None
) -> Tensor:
    r"""Matchability-aware loss, Huang et al. 2025 (DEIM), https://arxiv.org/abs/2412.04234.

    .. math::
        \mathrm{BCE}(x, q^\gamma) \text{ for positives}, \quad
        [\alpha] \, p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without gradient through :math:`p^\gamma`.
    """
    with no_grad():
        negative_weight = power(sigmoid(x), gamma)
        if alpha is not None:
            negative_weight = alpha * negative_weight
        score = sharpened(t, gamma)
    return torch.where(t.positive, 1.0, negative_weight) * bce(x, score)


def iou_aware_bce(x: Tensor, t: Target, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    r"""IoU-aware BCE, Cai et al. 2024 (Align-DETR), https://arxiv.org/abs/2304.07527.

    .. math::
        \mathrm{BCE}(x, t), \; t = \max(p^\alpha q^{1-\alpha}, 0.01) \text{ for positives}, \quad
        p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without gradient through t.
    """
    p = sigmoid(x)
    with no_grad():
        aligned = power(p, alpha) * sharpened(t, 1 - alpha)
        score = torch.where(t.positive, aligned.clamp(min=0.01), t.score)
    return torch.where(t.positive, 1.0, power(p, gamma)) * bce(x, score)


def position_supervised(
    x: Tensor,
    t: Target,
    *,
    gamma: float = 2.0,
    alpha: PerClass | None = 0.25,
    exponent: float = 2.0,
) -> Tensor:
    r"""Position-supervised loss, Liu et al. 2023 (Stable-DINO), https://arxiv.org/abs/2304.04742.

    .. math::
        \alpha |q^k - p|^\gamma \, \mathrm{BCE}(x, q^k) \text{ for positives}, \quad
        (1 - \alpha) p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    with exponent k: quality focal loss of a sharpened quality, with class balance.
    """
    with no_grad():
        score = sharpened(t, exponent)
    loss = quality_focal(x, Target(score, t.quality), beta=gamma)
    return loss * alpha_factor(t.positive.to(x.dtype), alpha)


def slide_weight(quality: Tensor, mean_quality: Tensor) -> Tensor:
    r"""Weight of the slide loss, Yu et al. 2022 (YOLO-FaceV2), https://arxiv.org/abs/2208.02019.

    1 up to :math:`\mu - 0.1`, :math:`e^{1-\mu}` up to :math:`\mu`, then
    :math:`e^{1-y}`.
    """
    near = torch.maximum(quality, mean_quality)
    return torch.where(quality <= mean_quality - 0.1, 1.0, (1 - near).exp())


def equalized_gamma(balance: Tensor, *, gamma: float, scale_factor: float) -> Tensor:
    r"""Focusing exponents :math:`\gamma_c = \gamma + s (1 - g_c)` of :func:`equalized_focal`.

    Args:
        balance: (C,) ratio :math:`g_c` in [0, 1] of the gradients of positives to negatives.
        gamma: exponent of a balanced class.
        scale_factor: s, how much the exponent grows for a rare class.
    """
    return gamma + scale_factor * (1 - balance)


def equalized_focal(
    x: Tensor,
    t: Target,
    class_gamma: Tensor,
    *,
    gamma: float = 2.0,
    alpha: PerClass | None = 0.25,
) -> Tensor:
    r"""Equalized focal loss, Li et al. 2022, https://arxiv.org/abs/2201.02593, its EFL.

    .. math:: \frac{\gamma_c}{\gamma} \mathrm{focal}(x, y; \gamma_c)

    Args:
        x: (N, C) logits.
        t: their targets.
        class_gamma: (C,) focusing exponents :math:`\gamma_c`, see :func:`equalized_gamma`.
        gamma: focusing exponent > 0 of a balanced class.
        alpha: see :func:`focal`.
    """
    return class_gamma * (1 / gamma) * focal(x, t, gamma=class_gamma, alpha=alpha)
