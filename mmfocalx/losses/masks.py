from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .batch import Target, check_scores, check_weight
from .checks import check_bool, check_number, check_on, describe, wrong
from .one_pass.elementary import ANY_ORDER
from .per_sample import PerSampleLoss
from .terms import focal


@MODELS.register_module()
class FocalDiceLossX(PerSampleLoss):
    r"""Focal loss of the pixels plus dice loss of the mask, one value per sample.

    Focal: Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 5, its mean over the mask; dice:
    Milletari et al. 2016, https://arxiv.org/abs/1606.04797, section 3, unsquared:

    .. math::
        \mathrm{mean}(\mathrm{focal}(x, y)) + 1 - \frac{2 \sum p y + s}{\sum p + \sum y + s}

    each with its weight. Predictions are mask logits (N, H, W) or (N, C, H, W), targets masks of
    their shape in [0, 1], weights (N,).

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

    Example:
        >>> import torch
        >>> from mmfocalx.losses import FocalDiceLossX
        >>> loss = FocalDiceLossX(gamma=0.0, alpha=None)
        >>> loss(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]]))  # ln 2 + 1 - 2 / 3
        tensor(1.0265)
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
        **unknown: Any,
    ) -> None:
        super().__init__(reduction, loss_weight, **unknown)
        if not check_bool('use_sigmoid', use_sigmoid):
            wrong('use_sigmoid', 'True for FocalDiceLossX, which has no softmax form', use_sigmoid)
        self.use_sigmoid = use_sigmoid
        self.gamma = check_number('gamma', gamma, low=0)
        self.alpha = None if alpha is None else check_number('alpha', alpha, low=0, high=1)
        self.focal_weight = check_number('focal_weight', focal_weight)
        self.dice_weight = check_number('dice_weight', dice_weight)
        self.smooth = check_number('smooth', smooth, above=0)

    def check(
        self, pred: Tensor, target: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if not isinstance(pred, Tensor) or not pred.is_floating_point():
            wrong('pred', 'a floating-point tensor', describe(pred), TypeError)
        if pred.ndim not in (3, 4) or 0 in pred.shape[1:]:
            wrong('pred', 'of shape (N, H, W) or (N, C, H, W)', tuple(pred.shape))
        if not isinstance(target, Tensor):
            wrong('target', 'a tensor', type(target).__name__, TypeError)
        check_on('pred', pred)
        check_on('target', target, pred.device)
        if target.shape != pred.shape:
            wrong('target', f"masks of pred's shape {tuple(pred.shape)}", tuple(target.shape))
        if target.is_complex():
            wrong('target', 'real numbers', describe(target), TypeError)
        target = target.detach()
        check_scores('target', target)
        weight = check_weight(weight, pred.shape[:1], 1, pred.device)
        return pred.flatten(1), target.flatten(1), None if weight is None else weight[:, 0]

    def per_sample(self, pred: Tensor, target: Tensor) -> Tensor:
        p, t = pred.sigmoid(), Target(target, target)
        both, either = (p * target).sum(1), p.sum(1) + target.sum(1)
        dice = 1 - (2 * both + self.smooth) / (either + self.smooth)
        mean_focal = focal(pred, t, ANY_ORDER, gamma=self.gamma, alpha=self.alpha).mean(1)
        return self.focal_weight * mean_focal + self.dice_weight * dice
