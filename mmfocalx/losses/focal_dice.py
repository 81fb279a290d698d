from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .checks import check_bool, check_number, describe, wrong
from .functional import focal
from .reduction import ReducedLoss, check_avg_factor, check_weight, reduce, resolve_reduction
from .targets import Target, check_target


@MODELS.register_module()
class FocalDiceLossX(ReducedLoss):
    """Focal plus dice loss of masks, one value per sample.

    Focal: Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5, its mean over the mask;
    dice: Milletari et al. 2016, https://arxiv.org/abs/1606.04797, section 3, unsquared.

    Args:
        use_sigmoid: True; spelled out as in every loss config.
        gamma: focusing exponent >= 0.
        alpha: weight in [0, 1] of positives against 1 - alpha of negatives, or None.
        focal_weight: factor of the focal part.
        dice_weight: factor of the dice part.
        smooth: added to both sides of the dice ratio, > 0.
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(
        self,
        *,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        focal_weight: float = 1.0,
        dice_weight: float = 1.0,
        smooth: float = 1.0,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not check_bool('use_sigmoid', use_sigmoid):
            wrong('use_sigmoid', 'True for FocalDiceLossX, which has no softmax form', use_sigmoid)
        self.use_sigmoid = use_sigmoid
        self.gamma = check_number('gamma', gamma, low=0)
        self.alpha = None if alpha is None else check_number('alpha', alpha, 0, 1)
        self.focal_weight = check_number('focal_weight', focal_weight)
        self.dice_weight = check_number('dice_weight', dice_weight)
        if check_number('smooth', smooth, low=0) == 0:
            wrong('smooth', 'above 0', smooth)
        self.smooth = smooth

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
            pred: (N, H, W) or (N, C, H, W) mask logits.
            target: masks of ``pred``'s shape in [0, 1].
            weight: (N,) factor of the samples.
            avg_factor: divisor of a mean, a number or a one-element tensor.
            reduction_override: replaces ``reduction`` for this call.

        Returns:
            0-d, or (N,) with reduction 'none'.

        Raises:
            TypeError, ValueError: for an argument of the wrong type, shape or value, naming it.
        """
        reduction = resolve_reduction(self.reduction, reduction_override, avg_factor)
        avg_factor = check_avg_factor(avg_factor)
        if not isinstance(pred, Tensor) or not pred.is_floating_point():
            wrong('pred', 'a floating-point tensor', describe(pred), TypeError)
        if pred.ndim not in (3, 4) or 0 in pred.shape[1:]:
            wrong('pred', 'of shape (N, H, W) or (N, C, H, W)', tuple(pred.shape))
        if not isinstance(target, Tensor):
            wrong('target', 'a tensor', type(target).__name__, TypeError)
        if target.shape != pred.shape:
            wrong('target', f"masks of pred's shape {tuple(pred.shape)}", tuple(target.shape))
        check_target(target, pred, use_sigmoid=True, ignore_index=None)
        weight = check_weight(weight, pred.shape[:1], 1)
        x, y = pred.flatten(1), target.detach().flatten(1)
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        y = y.to(x.dtype)
        p = x.sigmoid()
        dice = 1 - (2 * (p * y).sum(1) + self.smooth) / (p.sum(1) + y.sum(1) + self.smooth)
        mean_focal = focal(x, Target(y, y), gamma=self.gamma, alpha=self.alpha).mean(1)
        loss = self.focal_weight * mean_focal + self.dice_weight * dice
        if weight is not None:
            loss = loss * weight[:, 0].to(loss.dtype)
        return self.loss_weight * reduce(loss, reduction, avg_factor, len(loss))
