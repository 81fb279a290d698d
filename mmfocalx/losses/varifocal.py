from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_bool
from .elementary import PerClass
from .functional import varifocal
from .targets import Target


@MODELS.register_module()
class VarifocalLossX(DenseClsLoss):
    """Varifocal loss, Zhang et al. 2021, https://arxiv.org/abs/2008.13367, eq. 2.

    Args:
        alpha: weight in [0, 1] of negatives, one number or one per class.
        gamma: focusing exponent >= 0 of negatives, one number or one per class.
        iou_weighted: whether positives are weighted by their quality.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True
    bce_settings = {'alpha': 1.0, 'gamma': 0.0}
    alpha: PerClass
    gamma: PerClass

    def __init__(
        self,
        *,
        alpha: float | Sequence[float] = 0.75,
        gamma: float | Sequence[float] = 2.0,
        iou_weighted: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_per_class('alpha', alpha, low=0, high=1)
        self._set_per_class('gamma', gamma, low=0)
        self.iou_weighted = check_bool('iou_weighted', iou_weighted)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return varifocal(x, t, alpha=self.alpha, gamma=self.gamma, iou_weighted=self.iou_weighted)
