from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .checks import check_number, describe, wrong
from .elementary import power
from .reduction import ReducedLoss, check_avg_factor, check_weight, reduce, resolve_reduction


@MODELS.register_module()
class FocalEIoULossX(ReducedLoss):
    """Focal-EIoU loss of boxes, Zhang et al. 2022, https://arxiv.org/abs/2101.08158.

    Args:
        gamma: exponent >= 0 of the IoU, through which no gradient passes.
        eps: added to the divisors, > 0.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.5,
        eps: float = 1e-7,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.gamma = check_number('gamma', gamma, low=0)
        if check_number('eps', eps, low=0) == 0:
            wrong('eps', 'above 0', eps)
        self.eps = eps

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: (N, 4) boxes, xyxy in pixels.
            target: (N, 4) boxes, xyxy in pixels.
            weight: (N,) factor of the boxes, or (N, 4), of which the mean is taken.
            avg_factor: divisor of a mean, a number or a one-element tensor.
            reduction_override: replaces ``reduction`` for this call.

        Returns:
            0-d, or (N,) with reduction 'none'.

        Raises:
            TypeError, ValueError: for an argument of the wrong type or shape, naming it.
        """
        reduction = resolve_reduction(self.reduction, reduction_override, avg_factor)
        avg_factor = check_avg_factor(avg_factor)
        for name, boxes in (('pred', pred), ('target', target)):
            if not isinstance(boxes, Tensor) or not boxes.is_floating_point():
                wrong(name, 'a floating-point tensor', describe(boxes), TypeError)
            if boxes.ndim != 2 or boxes.shape != (len(pred), 4):
                wrong(name, 'boxes of shape (N, 4)', tuple(boxes.shape))
        weight = check_weight(weight, pred.shape[:1], 4)
        if pred.dtype in (torch.float16, torch.bfloat16):
            pred = pred.float()
        loss = self._per_box(pred, target.to(pred.dtype))
        if weight is not None:
            loss = loss * weight.to(loss.dtype).mean(dim=1)
        return self.loss_weight * reduce(loss, reduction, avg_factor, len(loss))

    def _per_box(self, pred: Tensor, target: Tensor) -> Tensor:
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
        return power(iou.detach(), self.gamma) * (1 - iou + centre + sides)
