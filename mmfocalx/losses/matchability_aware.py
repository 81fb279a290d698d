from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number
from .elementary import PerClass
from .functional import matchability_aware
from .targets import Target


@MODELS.register_module()
class MALossX(DenseClsLoss):
    """Matchability-aware loss of DEIM, Huang et al. 2025, https://arxiv.org/abs/2412.04234.

    Args:
        gamma: exponent >= 0 of the quality of positives and of the probability of negatives.
        alpha: weight in [0, 1] of negatives, one number or one per class, or None.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True
    stops_gradient_at = 'the weight p^gamma of negatives'
    bce_settings = {'gamma': 0.0}
    alpha: PerClass | None

    def __init__(
        self,
        *,
        gamma: float = 1.5,
        alpha: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gamma = check_number('gamma', gamma, low=0)
        self._set_per_class('alpha', alpha, low=0, high=1, optional=True)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return matchability_aware(x, t, gamma=self.gamma, alpha=self.alpha)
