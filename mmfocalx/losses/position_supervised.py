from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .checks import check_number
from .one_pass.elementary import Elementary, PerClass
from .terms import alpha_factor, sharpened


@MODELS.register_module()
class PositionSupervisedLossX(DenseClsLoss):
    r"""Quality focal loss of a sharpened quality, with class balance.

    Position-supervised loss of Stable-DINO, Liu et al. 2023, https://arxiv.org/abs/2304.04742:

    .. math::
        \alpha |q^k - p|^\gamma \, \mathrm{BCE}(x, q^k) \text{ for positives}, \quad
        (1 - \alpha) p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    with exponent k. In a target (labels, quality) every foreground label is a positive, also where
    its quality is 0, as in the authors' code. That code scales the qualities of each image before
    the loss; here they are taken as they come.

    Args:
        gamma: exponent >= 0 of the distance between score and target.
        alpha: weight in [0, 1] of positives against 1 - alpha of negatives, one number, one
            per class, or None.
        exponent: power >= 0 of the quality that is the target of positives.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import PositionSupervisedLossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.8, 0.0])
        >>> loss = PositionSupervisedLossX(alpha=None)
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([[0.0136],
                [0.1733]])
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

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        with torch.no_grad():
            score = sharpened(t, f, self.exponent)
        focus = f.power((score - f.sigmoid(x)).abs(), self.gamma)
        return alpha_factor(t.matched.to(x.dtype), self.alpha) * focus * f.bce(x, score)
