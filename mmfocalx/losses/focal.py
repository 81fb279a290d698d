from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .elementary import PerClass
from .functional import focal, softmax_focal
from .targets import Target


@MODELS.register_module()
class FocalLossX(DenseClsLoss):
    """Focal loss, sigmoid or softmax, Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5.

    Args:
        gamma: focusing exponent >= 0, one number or one per class.
        alpha: sigmoid: weight in [0, 1] of positives against 1 - alpha of negatives; softmax:
            weight >= 0. One number, one per class, or None for no class balance.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
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

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        formula = focal if self.use_sigmoid else softmax_focal
        return formula(x, t, gamma=self.gamma, alpha=self.alpha)
