from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Batch, Target
from .checks import check_integer, check_number, wrong
from .one_pass.class_sums import class_sums
from .one_pass.elementary import Elementary, PerClass
from .probabilities import clipped
from .state import (
    FormerStates,
    is_transformed,
    refuse_heads_with_uneven_calls,
    repeats_a_differentiated_call,
    unwrapped,
)
from .terms import focal


@MODELS.register_module()
class EqualizedFocalLossX(DenseClsLoss):
    r"""Focal loss for long tails: rare classes focus more, and weigh more.

    Equalized focal loss, Li et al. 2022, https://arxiv.org/abs/2201.02593, eq. 5 to 7:

    .. math::
        \frac{\gamma_c}{\gamma} \, \alpha_t (1-p_t)^{\gamma_c} \, \mathrm{BCE}(x, y), \quad
        \gamma_c = \gamma + s \, (1 - g_c)

    where :math:`g_c` in [0, 1] is the gradient that the positives of class c have had over that of
    its negatives in earlier calls, 1 until there is any.

    Every call in training counts once, by the gradient of its own result: each micro-batch where
    gradients are accumulated over several, without their later division, which the ratio
    :math:`g_c` does not see. Activation checkpointing may repeat the call, which then counts once;
    with reentrant checkpoints it counts in backward. A call within a transform of torch.func, or
    that overrides the reduction with 'none', does not count. Every rank has to make the same
    calls: heads that leave some out on a rank without boxes, YOLOXHead and mmdet's family of
    DINOHead (not DINOHeadX), are refused when they are built under several ranks.

    Args:
        num_classes: C, a positive integer.
        gamma: focusing exponent > 0 of a balanced class.
        alpha: weight in [0, 1] of positives against 1 - alpha of negatives, one number, one
            per class, or None.
        scale_factor: how much the exponent of a rare class may grow, >= 0.
        kwargs: see :class:`DenseClsLoss`.

    Attributes:
        pos_grad: (C,) buffer, sum of the absolute gradients of the logits of positives.
        neg_grad: (C,) buffer, that of negatives. Both grow in training only, in forward, by the
            gradient of what forward returns (of its sum, with reduction 'none'), summed over all
            ranks: no factor from upstream, such as a loss scale, has a say.
        class_gamma: (C,) exponents of the latest forward.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import EqualizedFocalLossX
        >>> loss = EqualizedFocalLossX(num_classes=1, gamma=2.0, alpha=None)
        >>> loss.eval()(torch.zeros(1, 1), torch.tensor([0]))  # as focal loss: ln 2 / 4
        tensor(0.1733)
        >>> loss.pos_grad.fill_(1), loss.neg_grad.fill_(2)  # g = 1/2, gamma_c = 6: 3 ln 2 / 64
        (tensor([1.]), tensor([2.]))
        >>> loss(torch.zeros(1, 1), torch.tensor([0]))
        tensor(0.0325)
    """

    pos_grad: Tensor
    neg_grad: Tensor
    alpha: PerClass | None

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
        self.num_classes = check_integer('num_classes', num_classes, low=1)
        self.gamma = check_number('gamma', gamma, above=0)
        self._set_per_class('alpha', alpha, low=0, high=1, optional=True)
        super().check_classes(num_classes)
        self.scale_factor = check_number('scale_factor', scale_factor, low=0)
        self.register_buffer('pos_grad', torch.zeros(num_classes))
        self.register_buffer('neg_grad', torch.zeros(num_classes))
        self.class_gamma = torch.full((num_classes,), gamma)
        self._former = FormerStates()
        refuse_heads_with_uneven_calls(self, 'FocalLossX has no state, and works in every head.')

    def example_states(self) -> dict[str, dict[str, float]]:
        return {f'g = {g:g}': {'pos_grad': g, 'neg_grad': 1.0} for g in (1.0, 0.5, 0.1)}

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

    def update_state(self, batch: Batch, counts: bool) -> None:
        former = self._former.of(batch)
        if former is None:
            former = unwrapped(self.gamma + self.scale_factor * (1 - self.balance))
            if self.training:
                self._former.keep(batch, former)
        self.class_gamma = former

    def keeps_gradient_statistics(self, batch: Batch) -> bool:
        return (
            self.training
            and batch.x.requires_grad
            and torch.is_grad_enabled()
            and not is_transformed()
            and (torch.compiler.is_compiling() or not repeats_a_differentiated_call())
        )

    @torch.no_grad()
    def gradient_statistics(self, batch: Batch, gradient: Tensor) -> Tensor:
        if self.activated:  # the state is made of gradients by logits
            p = clipped(batch.x)
            gradient = gradient * (p * (1 - p))
        return class_sums(gradient, batch).to(self.pos_grad.dtype)

    @torch.no_grad()
    def update_gradient_statistics(self, statistics: Tensor) -> None:
        all_reduce(statistics)
        statistics = torch.where(statistics.isfinite().all(), statistics, 0)
        self.pos_grad += statistics[0]
        self.neg_grad += statistics[1]

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        gamma = self.class_gamma.to(x.dtype)
        return gamma * (1 / self.gamma) * focal(x, t, f, gamma=gamma, alpha=self.alpha)
