from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .batch import check_weight
from .checks import check_number, check_on, describe, wrong
from .one_pass.elementary import ANY_ORDER
from .per_sample import PerSampleLoss
from .precision import computed_in


@MODELS.register_module()
class FocalEIoULossX(PerSampleLoss):
    r"""IoU loss with the distances of centres and sides, in which good boxes count more.

    Focal-EIoU loss, Zhang et al. 2022, https://arxiv.org/abs/2101.08158, eq. 9 and 12:

    .. math::
        \mathrm{IoU}^\gamma \left(1 - \mathrm{IoU} + \frac{d^2}{c^2}
        + \frac{(w - w_t)^2}{c_w^2} + \frac{(h - h_t)^2}{c_h^2}\right)

    with the distance d of the centres and the diagonal c and sides of the enclosing box. No
    gradient passes through :math:`\mathrm{IoU}^\gamma`. Predictions and targets are (N, 4) boxes,
    xyxy in pixels, weights (N,) or (N, 4), of which the mean is taken.

    Args:
        gamma: exponent >= 0 of the IoU, through which no gradient passes.
        eps: added to the divisors, > 0.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import FocalEIoULossX
        >>> loss = FocalEIoULossX(gamma=0.0)
        >>> loss(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 4]]))  # IoU = 1/2
        tensor(0.8000)
    """

    def __init__(
        self,
        *,
        gamma: float = 0.5,
        eps: float = 1e-7,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        **unknown: Any,
    ) -> None:
        super().__init__(reduction, loss_weight, **unknown)
        self.gamma = check_number('gamma', gamma, low=0)
        self.eps = check_number('eps', eps, above=0)

    def check(
        self, pred: Tensor, target: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        for name, boxes in (('pred', pred), ('target', target)):
            if not isinstance(boxes, Tensor) or not boxes.is_floating_point():
                wrong(name, 'a floating-point tensor', describe(boxes), TypeError)
            check_on(name, boxes, pred.device)
            if boxes.ndim != 2 or boxes.shape != (len(pred), 4):
                wrong(name, 'boxes of shape (N, 4)', tuple(boxes.shape))
        weight = check_weight(weight, pred.shape[:1], 4, pred.device)
        return pred, target, None if weight is None else weight.to(computed_in(weight)).mean(dim=1)

    def per_sample(self, pred: Tensor, target: Tensor) -> Tensor:
        size, target_size = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
        top_left = torch.maximum(pred[:, :2], target[:, :2])
        bottom_right = torch.minimum(pred[:, 2:], target[:, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        iou = overlap / (size.prod(dim=1) + target_size.prod(dim=1) - overlap + self.eps)
        enclosing = torch.maximum(pred[:, 2:], target[:, 2:]) - torch.minimum(
            pred[:, :2], target[:, :2]
        )
        centre_offset = (pred[:, :2] + pred[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        centre = centre_offset.square().sum(1) / (enclosing.square().sum(1) + self.eps)
        sides = ((size - target_size).square() / (enclosing.square() + self.eps)).sum(1)
        return ANY_ORDER.power(iou.detach(), self.gamma) * (1 - iou + centre + sides)
