from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number, wrong
from .functional import asymmetric
from .targets import Target


@MODELS.register_module()
class AsymmetricLossX(DenseClsLoss):
    """Asymmetric loss, Ridnik et al. 2021, https://arxiv.org/abs/2009.14119.

    Args:
        gamma_pos: focusing exponent >= 0 of positives.
        gamma_neg: focusing exponent >= 0 of negatives.
        clip: probability in [0, 1) by which negatives are shifted down.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    bce_settings = {'gamma_pos': 0.0, 'gamma_neg': 0.0, 'clip': 0.0}

    def __init__(
        self,
        *,
        gamma_pos: float = 1.0,
        gamma_neg: float = 4.0,
        clip: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gamma_pos = check_number('gamma_pos', gamma_pos, low=0)
        self.gamma_neg = check_number('gamma_neg', gamma_neg, low=0)
        if check_number('clip', clip, 0, 1) == 1:
            wrong('clip', 'below 1', clip)
        self.clip = clip

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        return asymmetric(x, t, gamma_pos=self.gamma_pos, gamma_neg=self.gamma_neg, clip=self.clip)
