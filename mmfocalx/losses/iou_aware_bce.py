from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .checks import check_number
from .one_pass.elementary import Elementary
from .terms import sharpened

MIN_TARGET = 0.01


@MODELS.register_module()
class IABCELossX(DenseClsLoss):
    r"""Positives learn a mean of their own score and their quality; easy negatives count less.

    IoU-aware BCE of Align-DETR, Cai et al. 2024, https://arxiv.org/abs/2304.07527:

    .. math::
        \mathrm{BCE}(x, t), \; t = \max(p^\alpha q^{1-\alpha}, 0.01) \text{ for positives}, \quad
        p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without gradient through t. In a target (labels, quality) every foreground label is a positive,
    also where its quality is 0, as in the authors' code. That code also weighs the positives of an
    object by their rank, where several predictions are matched to it; here ``weight`` can say so.

    Args:
        alpha: exponent in [0, 1] of the probability in the target of positives; 1 - alpha is
            that of the quality.
        gamma: focusing exponent >= 0 of negatives.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import IABCELossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.8, 0.0])
        >>> loss = IABCELossX()
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([[0.6931],
                [0.1733]])
    """

    quality_aware = True
    stops_gradient_at = 'the target t of positives'
    bce_settings = {'alpha': 0.0, 'gamma': 0.0}

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = check_number('alpha', alpha, 0, 1)
        self.gamma = check_number('gamma', gamma, low=0)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        p = f.sigmoid(x)
        with torch.no_grad():
            aligned = f.power(p, self.alpha) * sharpened(t, f, 1 - self.alpha)
            score = torch.where(t.matched, aligned.clamp(min=MIN_TARGET), t.score)
        return torch.where(t.matched, 1.0, f.power(p, self.gamma)) * f.bce(x, score)
