from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number
from .elementary import PerClass
from .functional import position_supervised
from .targets import Target


@MODELS.register_module()
class PositionSupervisedLossX(DenseClsLoss):
    """Position-supervised loss of Stable-DINO, Liu et al. 2023, https://arxiv.org/abs/2304.04742.

    Args:
        gamma: exponent >= 0 of the distance between score and target.
        alpha: weight in [0, 1] of positives against 1 - alpha of negatives, one number, one
            per class, or None.
        exponent: power >= 0 of the quality that is the target of positives.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True
    bce_settings = {'gamma': 0.0, 'alpha': None}
    alpha: PerClass | None

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = 0.25,
        exponent: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gamma = check_number('gamma', gamma, low=0)
        self._set_per_class('alpha', alpha, low=0, high=1, optional=True)
        self.exponent = check_number('exponent', exponent, low=0)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return position_supervised(x, t, gamma=self.gamma, alpha=self.alpha, exponent=self.exponent)
