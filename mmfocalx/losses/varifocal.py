from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Target
from .checks import check_bool
from .one_pass.elementary import Elementary, PerClass


@MODELS.register_module()
class VarifocalLossX(DenseClsLoss):
    r"""Positives learn their quality and weigh by it; easy negatives count less.

    Varifocal loss, Zhang et al. 2021, https://arxiv.org/abs/2008.13367, eq. 2:

    .. math::
        q \, \mathrm{BCE}(x, q) \text{ for positives}, \quad
        \alpha p^\gamma \, \mathrm{BCE}(x, 0) \text{ for negatives}

    without the leading q if not ``iou_weighted``. The gradient passes through :math:`p^\gamma`, as
    in the authors' code and in mmdet, unless ``detach``.

    Args:
        alpha: weight in [0, 1] of negatives, one number or one per class.
        gamma: focusing exponent >= 0 of negatives, one number or one per class.
        iou_weighted: whether positives are weighted by their quality.
        detach: whether no gradient passes through :math:`p^\gamma`, as in RT-DETR (Zhao et al.
            2024, https://arxiv.org/abs/2304.08069), D-FINE and DEIM. There, a match without any
            overlap has no loss; here it is a negative.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import VarifocalLossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.8, 0.0])
        >>> loss = VarifocalLossX()
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([[0.5545],
                [0.1300]])
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
        detach: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_per_class('alpha', alpha, low=0, high=1)
        self._set_per_class('gamma', gamma, low=0)
        self.iou_weighted = check_bool('iou_weighted', iou_weighted)
        self.detach = check_bool('detach', detach)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        positive_weight = t.score if self.iou_weighted else torch.ones_like(t.score)
        p = f.sigmoid(x)
        negative_weight = self.alpha * f.power(p.detach() if self.detach else p, self.gamma)
        return torch.where(t.positive, positive_weight, negative_weight) * f.bce(x, t.score)
