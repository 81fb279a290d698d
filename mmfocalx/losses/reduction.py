"""Weights, hard example mining and reduction: the only copies in the package."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .batch import plain_values, values_are_checked
from .checks import check_choice, check_known, check_number, describe, wrong

REDUCTIONS = ('none', 'mean', 'sum')
AVG_FACTOR_EPS = torch.finfo(torch.float32).eps


class ReducedLoss(nn.Module):
    """What every loss has: a reduction and a factor of the result.

    Args:
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.0, **unknown: Any) -> None:
        super().__init__()
        check_known(type(self), unknown)
        check_choice('reduction', reduction, REDUCTIONS)
        self.reduction = reduction
        self.loss_weight = check_number('loss_weight', loss_weight)


def resolve_reduction(reduction: str, override: str | None, avg_factor: object) -> str:
    """The reduction of one call.

    Raises:
        ValueError: for an unknown reduction, or a sum that is given an ``avg_factor``.
    """
    if override is not None:
        check_choice('reduction_override', override, (*REDUCTIONS, None))
        reduction = override
    if reduction == 'sum' and avg_factor is not None:
        wrong('avg_factor', "None with reduction 'sum'", avg_factor)
    return reduction


def check_avg_factor(avg_factor: object) -> float | Tensor | None:
    """Return a number as it is and a one-element tensor as 0-d."""
    if avg_factor is None:
        return None
    if isinstance(avg_factor, Tensor):
        if avg_factor.numel() != 1:
            wrong('avg_factor', 'a number or a one-element tensor', tuple(avg_factor.shape))
        if avg_factor.is_complex():
            wrong('avg_factor', 'a real number', describe(avg_factor), TypeError)
        if values_are_checked(avg_factor):
            low, high = (bound.item() for bound in plain_values(avg_factor.detach()).aminmax())
            if not (low >= 0 and high < math.inf):
                wrong('avg_factor', 'a finite number of at least 0', low if low < 0 else high)
        return avg_factor.reshape(())
    return check_number('avg_factor', avg_factor, low=0)


def hardest(loss: Tensor, ratio: float, counted: Tensor | None) -> Tensor:
    """Mask of the ``ceil(ratio * n)`` largest entries (online hard example mining).

    Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540, section 4.

    Args:
        loss: unreduced loss of any shape.
        ratio: share of the entries to keep, in (0, 1].
        counted: bool of the loss's shape, the n entries to choose among; None for all.
    """
    values = loss.detach().reshape(-1)
    if counted is None:
        keep = torch.full_like(values, math.ceil(ratio * values.numel()), dtype=torch.long)
    else:
        counted = counted.reshape(-1)
        values = values.masked_fill(~counted, -math.inf)
        keep = (counted.sum(dtype=torch.float64) * ratio).ceil().long().expand_as(values)
    rank = torch.arange(values.numel(), device=values.device)
    order = values.argsort(descending=True, stable=True)
    return (
        torch.zeros_like(keep, dtype=torch.bool).scatter(0, order, rank < keep).reshape(loss.shape)
    )


def reduce(
    loss: Tensor, reduction: str, avg_factor: float | Tensor | None, count: float | Tensor
) -> Tensor:
    """Reduce an unreduced loss.

    Args:
        loss: unreduced loss of any shape.
        reduction: 'none', 'mean' or 'sum'.
        avg_factor: divisor of a mean in place of ``count``; ignored by 'none'.
        count: number of entries that a plain mean is over.
    """
    return loss if reduction == 'none' else loss.sum() / divisor(reduction, avg_factor, count)


def divisor(
    reduction: str, avg_factor: float | Tensor | None, count: float | Tensor
) -> float | Tensor:
    """What 'mean' or 'sum' divides the sum of the entries by; see :func:`reduce`."""
    if reduction == 'sum':
        return 1
    if avg_factor is not None:
        return avg_factor + AVG_FACTOR_EPS
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
