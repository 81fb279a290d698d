from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number
from .functional import quality_focal
from .targets import Target


@MODELS.register_module()
class QualityFocalLossX(DenseClsLoss):
    """Quality focal loss, Li et al. 2020, https://arxiv.org/abs/2006.04388, eq. 2.

    Sums over the classes, so that a plain mean divides by the number of predictions.

    Args:
        beta: exponent >= 0 of the distance between score and quality.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    sums_classes = True
    quality_aware = True
    bce_settings = {'beta': 0.0}

    def __init__(self, *, beta: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta = check_number('beta', beta, low=0)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return quality_focal(x, t, beta=self.beta)
