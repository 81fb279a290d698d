from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .one_pass.elementary import Elementary, PerClass
from .terms import focal


@MODELS.register_module()
class FocalLossX(DenseClsLoss):
    r"""Cross-entropy in which easy predictions count less.

    Focal loss, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5; with sigmoid

    .. math:: \alpha_t (1-p_t)^\gamma \, \mathrm{BCE}(x, y), \quad 1-p_t = p(1-y) + (1-p)y

    and with softmax, over the classes c,

    .. math:: \sum_c y_c \, \alpha_c (1-p_c)^\gamma (-\log p_c)

    Args:
        gamma: focusing exponent >= 0, one number or one per class.
        alpha: sigmoid: weight in [0, 1] of positives against 1 - alpha of negatives; softmax:
            weight >= 0. One number, one per class, or None for no class balance.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import FocalLossX
        >>> logits = torch.zeros(2, 3)  # p = 1/2 everywhere
        >>> loss = FocalLossX(gamma=2.0, alpha=0.25)
        >>> loss(logits, torch.tensor([0, 3]), reduction_override='none')  # 3 is background
        tensor([[0.0433, 0.1300, 0.1300],
                [0.1300, 0.1300, 0.1300]])
    """

    supports_softmax = True
    bce_settings = {'gamma': 0.0, 'alpha': None}
    gamma: PerClass
    alpha: PerClass | None

    def __init__(
        self,
        *,
        gamma: float | Sequence[float] = 2.0,
        alpha: float | Sequence[float] | None = 0.25,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_per_class('gamma', gamma, low=0)
        high = 1 if self.use_sigmoid else math.inf
        self._set_per_class('alpha', alpha, low=0, high=high, optional=True)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        if self.use_sigmoid:
            return focal(x, t, f, gamma=self.gamma, alpha=self.alpha)
        log_p = x.log_softmax(dim=-1)
        loss = t.score * f.power(-log_p.expm1(), self.gamma) * -log_p
        return loss if self.alpha is None else self.alpha * loss
