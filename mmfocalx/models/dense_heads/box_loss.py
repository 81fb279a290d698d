from __future__ import annotations

import inspect
from typing import Any

import torch
from mmdet.models.losses import GIoULoss, IoULoss
from torch import Tensor, nn

from ..targets import aligned_overlaps

BOX_LOSSES = ('loss_bbox', 'loss_iou', 'loss_pts_init', 'loss_pts_refine')
Losses = dict[str, Tensor | list[Tensor]]
AVG_FACTOR_EPS = torch.finfo(torch.float32).eps


def box_loss(
    loss: nn.Module, pred: Tensor, target: Tensor, weight: Tensor, avg_factor: float | Tensor
) -> Tensor:
    """A box loss, weighted and averaged outside the loss.

    mmdet's box losses look on the host whether a weight is above 0. A loss that cannot be had
    unreduced, or whose reduction is no mean, is called as in mmdet.

    Args:
        loss: a box loss with mmdet's arguments.
        pred: (N, 4)
        target: (N, 4)
        weight: (N,) or (N, 4), 0 for the boxes that do not count.
        avg_factor: what the sum is divided by.

    Returns:
        0-d
    """
    takes_none = 'reduction_override' in inspect.signature(loss.forward).parameters
    if not takes_none or getattr(loss, 'reduction', None) != 'mean':
        reduced: Tensor = loss(pred, target, weight, avg_factor=avg_factor)
        return reduced
    each = _each(loss, pred, target)
    if each.ndim < weight.ndim:
        weight = weight.mean(dim=1)
    elif each.ndim > weight.ndim:
        weight = weight[:, None]
    return (each * weight).sum() / (avg_factor + AVG_FACTOR_EPS)


def _each(loss: Any, pred: Tensor, target: Tensor) -> Tensor:
    """(N,) or (N, 4), the loss of each box.

    For two of mmdet's losses it is computed here: they hand their eps to the device on each
    call, for which the host waits.
    """
    if type(loss) is GIoULoss:
        giou = aligned_overlaps(pred.float(), target.float(), 'giou', eps=loss.eps)
        each: Tensor = loss.loss_weight * (1 - giou)
    elif type(loss) is IoULoss:
        iou = aligned_overlaps(pred.float(), target.float()).clamp(min=loss.eps)
        form = {'linear': lambda: 1 - iou, 'square': lambda: 1 - iou**2, 'log': lambda: -iou.log()}
        each = loss.loss_weight * form[loss.mode]()
    else:
        each = loss(pred, target, reduction_override='none')
    return each


def self_balanced(losses: Losses) -> Losses:
    """Losses whose box losses are multiplied by the classification loss over their sum.

    The factor has no gradient; it is 1 where it would not be finite and above 0.
    """
    of_boxes = [name for name in BOX_LOSSES if name in losses]
    loss_box = torch.stack([_total(losses[name]) for name in of_boxes]).sum()
    ratio = (_total(losses['loss_cls']) / loss_box).detach()
    factor = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1)
    return losses | {name: _times(factor, losses[name]) for name in of_boxes}


def _total(loss: Tensor | list[Tensor]) -> Tensor:
    return loss if isinstance(loss, Tensor) else torch.stack(loss).sum()


def _times(factor: Tensor, loss: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return factor * loss if isinstance(loss, Tensor) else [factor * level for level in loss]
