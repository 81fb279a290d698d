from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .checks import check_number
from .one_pass.elementary import Elementary


@MODELS.register_module()
class QualityFocalLossX(DenseClsLoss):
    r"""Focal loss of a soft target: the nearer the score is to the quality, the less it counts.

    Quality focal loss, Li et al. 2020, https://arxiv.org/abs/2006.04388, eq. 2:

    .. math:: \sum_c |y_c - p_c|^\beta \, \mathrm{BCE}(x_c, y_c)

    It sums over the classes, so that a plain mean divides by the number of predictions.

    Args:
        beta: exponent >= 0 of the distance between score and quality.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import QualityFocalLossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.8, 0.0])
        >>> loss = QualityFocalLossX(beta=2.0)
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([0.0624, 0.1733])
    """

    sums_classes = True
    quality_aware = True
    bce_settings = {'beta': 0.0}

    def __init__(self, *, beta: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta = check_number('beta', beta, low=0)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        return f.power((t.score - f.sigmoid(x)).abs(), self.beta) * f.bce(x, t.score)
