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
from .terms import sharpened


@MODELS.register_module()
class MALossX(DenseClsLoss):
    r"""Positives learn a sharpened quality, with full weight even where the quality is low.

    Matchability-aware loss of DEIM, Huang et al. 2025, https://arxiv.org/abs/2412.04234, eq. 3:

    .. math::
        \mathrm{BCE}(x, q^\gamma) \text{ for positives}, \quad
        [\alpha] \, p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without gradient through :math:`p^\gamma`. In a target (labels, quality) every foreground label
    is a positive, also where its quality is 0, as in the authors' code.

    Args:
        gamma: exponent >= 0 of the quality of positives and of the probability of negatives.
        alpha: weight in [0, 1] of negatives, one number or one per class, or None.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import MALossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.64, 0.0])
        >>> loss = MALossX(gamma=1.5)
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([[0.6931],
                [0.2451]])
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

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        with torch.no_grad():
            negative_weight = f.power(f.sigmoid(x), self.gamma)
            if self.alpha is not None:
                negative_weight = self.alpha * negative_weight
            score = sharpened(t, f, self.gamma)
        return torch.where(t.matched, 1.0, negative_weight) * f.bce(x, score)
