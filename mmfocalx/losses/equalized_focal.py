from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .blockwise import blocks
from .checks import check_number, wrong
from .elementary import PerClass
from .functional import equalized_focal, equalized_gamma
from .targets import CheckedTarget, Target

SUMMED_AT_ONCE = 2**12
"""Rows that one product adds up; it is fast, and its rounding grows with them."""


@MODELS.register_module()
class EqualizedFocalLossX(DenseClsLoss):
    """Equalized focal loss for long tails, Li et al. 2022, https://arxiv.org/abs/2201.02593.

    Args:
        num_classes: C, a positive integer.
        gamma: focusing exponent > 0 of a balanced class.
        alpha: weight in [0, 1] of positives against 1 - alpha of negatives, one number, one
            per class, or None.
        scale_factor: how much the exponent of a rare class may grow, >= 0.
        kwargs: see :class:`DenseClsLoss`.

    Attributes:
        pos_grad: (C,) buffer, sum of the absolute gradients of the logits of positives.
        neg_grad: (C,) buffer, that of negatives. Both grow in training only; with several
            ranks, a step's gradients are summed over them at the next forward.
        class_gamma: (C,) exponents of the latest forward.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    pos_grad: Tensor
    neg_grad: Tensor
    alpha: PerClass | None
    stops_gradient_at = 'the exponents gamma_c'

    @classmethod
    def example_config(cls, num_classes: int) -> dict[str, Any]:
        return {**super().example_config(num_classes), 'num_classes': num_classes}

    def __init__(
        self,
        *,
        num_classes: int,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = 0.25,
        scale_factor: float = 8.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if type(num_classes) is not int:
            wrong('num_classes', 'a positive integer', num_classes, TypeError)
        if num_classes < 1:
            wrong('num_classes', 'a positive integer', num_classes)
        self.num_classes = num_classes
        if check_number('gamma', gamma, low=0) == 0:
            wrong('gamma', 'above 0', gamma)
        self.gamma = float(gamma)
        self._set_per_class('alpha', alpha, low=0, high=1, optional=True)
        super().check_classes(num_classes)
        self.scale_factor = check_number('scale_factor', scale_factor, low=0)
        self.register_buffer('pos_grad', torch.zeros(num_classes))
        self.register_buffer('neg_grad', torch.zeros(num_classes))
        self.class_gamma = torch.full((num_classes,), gamma)
        self._own_rank: list[Tensor] = []

    @property
    def balance(self) -> Tensor:
        """(C,) gradient of positives over that of negatives in [0, 1], 1 until there is any."""
        seen = self.pos_grad + self.neg_grad > 0
        ratio = self.pos_grad / self.neg_grad.clamp(min=torch.finfo(self.neg_grad.dtype).tiny)
        return torch.where(seen, ratio.clamp(0, 1), 1.0)

    def check_classes(self, num_classes: int) -> None:
        super().check_classes(num_classes)
        if num_classes != self.num_classes:
            wrong('pred', f'of num_classes={self.num_classes} channels', num_classes)

    def observe(self, x: Tensor, checked: CheckedTarget) -> None:
        if self.training and get_world_size() > 1:
            own = torch.zeros(2, self.num_classes, device=x.device, dtype=self.pos_grad.dtype)
            for grads in self._own_rank:
                own += grads
            self._own_rank.clear()
            all_reduce(own)
            self._add(own)
        self.class_gamma = equalized_gamma(
            self.balance, gamma=self.gamma, scale_factor=self.scale_factor
        )
        if self.training and x.requires_grad:
            x.register_hook(partial(self._collect, x.detach(), checked))

    def _collect(self, x: Tensor, checked: CheckedTarget, grad: Tensor) -> None:
        grad = grad.detach()
        grads = self.pos_grad.new_zeros(2, self.num_classes, device=x.device)
        positive, negative = grads
        parts = list(blocks(grad, at_most=SUMMED_AT_ONCE))
        room = torch.empty_like(grad[parts[0]] if parts else grad)
        if checked.labels is None:
            for rows in parts:
                sizes = self._sizes(grad, x, rows, room)
                kept = torch.where(checked.rows(rows).expand(sizes).positive, sizes, 0)
                positive += kept.sum(dim=0)
                negative += (sizes - kept).sum(dim=0)
        else:
            is_positive = checked.positive_quality(self.num_classes) > 0
            others = (~is_positive).to(grads.dtype)
            sums = [negative]
            for rows in parts:
                sizes = self._sizes(grad, x, rows, room)
                # Unlike a product, addmv_ keeps its precision within autocast.
                sums.append(torch.zeros_like(negative).addmv_(sizes.T, others[rows]))
            for few in is_positive.nonzero()[:, 0].split(max(1, len(room))):
                sizes, labels = self._sizes(grad, x, few, room), checked.labels[few]
                positive.index_add_(0, labels, sizes.gather(1, labels[:, None])[:, 0])
                sums.append(sizes.scatter_(1, labels[:, None], 0).sum(dim=0))
            grads[1] = torch.stack(sums).sum(dim=0)
        if get_world_size() > 1:
            self._own_rank.append(grads)
        else:
            self._add(grads)

    def _sizes(self, grad: Tensor, x: Tensor, rows: slice | Tensor, room: Tensor) -> Tensor:
        """Absolute gradients of the logits of some rows; ``room`` for as many saves memory."""
        part = grad[rows]
        sizes = torch.abs(part, out=room[: len(part)])
        if self.activated:
            sizes *= x[rows] * (1 - x[rows])
        return sizes.to(self.pos_grad.dtype)

    def _add(self, grads: Tensor) -> None:
        grads = torch.where(grads.isfinite().all(), grads, 0)  # a scaled loss may overflow
        self.pos_grad += grads[0]
        self.neg_grad += grads[1]

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        gamma = self.class_gamma.to(x.dtype)
        return equalized_focal(x, t, gamma, gamma=self.gamma, alpha=self.alpha)
