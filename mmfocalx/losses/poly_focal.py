from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .checks import check_number
from .focal import FocalLossX
from .functional import poly_focal
from .targets import Target


@MODELS.register_module()
class PolyFocalLossX(FocalLossX):
    """Poly-1 focal loss, Leng et al. 2022, https://arxiv.org/abs/2204.12511.

    Args:
        epsilon: coefficient of the extra leading term; may be negative.
        kwargs: ``gamma`` and ``alpha`` of :class:`FocalLossX`; see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    supports_softmax = False
    bce_settings = {'gamma': 0.0, 'alpha': None, 'epsilon': 0.0}

    def __init__(self, *, epsilon: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = check_number('epsilon', epsilon)

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return poly_focal(x, t, gamma=self.gamma, alpha=self.alpha, epsilon=self.epsilon)
