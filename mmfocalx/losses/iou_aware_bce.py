from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number
from .functional import iou_aware_bce
from .targets import Target


@MODELS.register_module()
class IABCELossX(DenseClsLoss):
    """IoU-aware BCE of Align-DETR, Cai et al. 2024, https://arxiv.org/abs/2304.07527.

    Args:
        alpha: exponent in [0, 1] of the probability in the target of positives; 1 - alpha is
            that of the quality.
        gamma: focusing exponent >= 0 of negatives.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True
    stops_gradient_at = 'the target t of positives'
    bce_settings = {'alpha': 0.0, 'gamma': 0.0}

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = check_number('alpha', alpha, 0, 1)
        self.gamma = check_number('gamma', gamma, low=0)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return iou_aware_bce(x, t, alpha=self.alpha, gamma=self.gamma)
