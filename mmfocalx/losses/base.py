"""The one forward of all classification losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from .blockwise import computed_in
from .checks import check_bool, check_choice, check_number, check_per_class, describe, wrong
from .fused import scaled_sum
from .reduction import (
    ReducedLoss,
    check_avg_factor,
    check_weight,
    divisor,
    hardest,
    resolve_reduction,
)
from .targets import CheckedTarget, Target, TargetLike, check_target

PROBABILITY_EPS = 1e-6


class DenseClsLoss(ReducedLoss):
    """Base of the classification losses: a subclass adds its formula, :meth:`elementwise`.

    Args:
        use_sigmoid: sigmoid per class if True, softmax over the classes if False (only where
            ``supports_softmax``).
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        activated: whether predictions are probabilities, clipped to [1e-6, 1 - 1e-6], instead
            of logits.
        ignore_index: label of rows with zero loss and gradient that no mean counts.
        label_smoothing: s in [0, 1); y(1-s) + s/2 replaces the score y (softmax: s/C).
        ohem_ratio: share in (0, 1] of the entries to keep, the largest of the unreduced loss.
        fused: whether a reduced loss's value and gradient are computed in one compiled pass: True,
            False, or 'auto' for calls large enough to be worth it where torch.compile works.
            MMFOCALX_FUSED=0 in the environment means False everywhere.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    supports_softmax = False
    sums_classes = False
    quality_aware: ClassVar[bool] = False
    """Whether the formula means the quality of a positive to be its target."""
    stops_gradient_at: ClassVar[str] = ''
    """The term through which no gradient passes, as its docs name it; '' if there is none."""
    bce_settings: ClassVar[Mapping[str, Any] | None] = None
    """Arguments that make it binary cross-entropy of hard labels, if there are any."""
    _one_per_class: tuple[str, ...] = ()

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = 'mean',
        loss_weight: float = 1.0,
        activated: bool = False,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        ohem_ratio: float | None = None,
        fused: str | bool = 'auto',
    ) -> None:
        super().__init__(reduction, loss_weight)
        self.use_sigmoid = check_bool('use_sigmoid', use_sigmoid)
        if not use_sigmoid and not self.supports_softmax:
            wrong(
                'use_sigmoid', f'True for {type(self).__name__}, which has no softmax form', False
            )
        self.sums_classes = self.sums_classes or not use_sigmoid
        self.activated = check_bool('activated', activated)
        if ignore_index is not None and type(ignore_index) is not int:
            wrong('ignore_index', 'an integer or None', ignore_index, TypeError)
        self.ignore_index = ignore_index
        self.label_smoothing = check_number('label_smoothing', label_smoothing, 0, 1)
        if label_smoothing == 1:
            wrong('label_smoothing', 'below 1', label_smoothing)
        if ohem_ratio is not None and check_number('ohem_ratio', ohem_ratio, 0, 1) == 0:
            wrong('ohem_ratio', 'above 0', ohem_ratio)
        self.ohem_ratio = ohem_ratio
        check_choice('fused', fused, ('auto', True, False))
        self.fused = fused

    @classmethod
    def example_config(cls, num_classes: int) -> dict[str, Any]:
        """A config that builds the loss for ``num_classes`` classes with its default settings."""
        return {'type': cls.__name__, 'use_sigmoid': True}

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        """The formula: (N, C) logits and their targets to the (N, C) loss, each row by itself."""
        raise NotImplementedError

    def observe(self, x: Tensor, checked: CheckedTarget) -> None:
        """Update the state that :meth:`elementwise` reads, if a loss has any.

        Args:
            x: (N, C) predictions as given.
            checked: their targets.
        """

    def forward(
        self,
        pred: Tensor,
        target: TargetLike,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            pred: (..., C) logits, or probabilities if ``activated``; (N,) stands for (N, 1).
            target: labels (...) in 0..C-1, C for background (sigmoid); a tuple (labels,
                quality), both (...); or dense scores of ``pred``'s shape in [0, 1].
            weight: factor of the entries; of shape (...), (..., 1), (..., C), or flat with N
                or N*C elements.
            avg_factor: divisor of a mean, a number or a one-element tensor.
            reduction_override: replaces ``reduction`` for this call.

        Returns:
            0-d, or with reduction 'none' of ``pred``'s shape, without its last dimension where
            the loss sums over classes. float32 for half-precision predictions.

        Raises:
            TypeError, ValueError: for an argument of the wrong type, shape or value, naming it.
        """
        reduction = resolve_reduction(self.reduction, reduction_override, avg_factor)
        avg_factor = check_avg_factor(avg_factor)
        x, checked, weight = self.check_inputs(pred, target, weight)
        self.observe(x, checked)
        if reduction != 'none' and self.ohem_ratio is None:
            mean_over = divisor(reduction, avg_factor, self.count(x, checked))
            return scaled_sum(self, x, checked, weight, self.loss_weight, mean_over)
        loss = self.entries(x, checked, weight)
        if self.ohem_ratio is not None:
            loss, count = self.mine(loss, checked.valid, self.ohem_ratio)
        if reduction != 'none':
            return self.loss_weight * loss.sum() / divisor(reduction, avg_factor, count)
        lead_only = self.sums_classes and pred.ndim > 1
        return self.loss_weight * loss.reshape(pred.shape[:-1] if lead_only else pred.shape)

    def entries(self, x: Tensor, checked: CheckedTarget, weight: Tensor | None) -> Tensor:
        """The weighted loss of every entry: (N, C), or (N,) where classes are summed.

        Args:
            x: (N, C) predictions as given, of any floating type.
            checked: their targets.
            weight: (N, 1), (N, C) or None.
        """
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        valid = None if checked.valid is None else checked.valid[:, None]
        if valid is not None:
            x = torch.where(valid, x, 0.5 if self.activated else 0.0)
        if self.activated:
            x = self._to_logits(x)
        loss = self.elementwise(x, self._smoothed(checked.expand(x)))
        if weight is not None:
            loss = loss * weight.to(loss.dtype)
        if valid is not None:
            loss = torch.where(valid, loss, 0.0)
        return loss.sum(dim=1) if self.sums_classes else loss

    def _smoothed(self, t: Target) -> Target:
        if not self.label_smoothing:
            return t
        uniform = 1 / 2 if self.use_sigmoid else 1 / t.score.shape[1]
        share = self.label_smoothing
        return Target(t.score * (1 - share) + share * uniform, t.quality)

    def _to_logits(self, p: Tensor) -> Tensor:
        if self.use_sigmoid:
            return p.logit(eps=PROBABILITY_EPS)
        return p.clamp(PROBABILITY_EPS, 1 - PROBABILITY_EPS).log()

    def check_inputs(
        self, pred: Tensor, target: TargetLike, weight: Tensor | None
    ) -> tuple[Tensor, CheckedTarget, Tensor | None]:
        if not isinstance(pred, Tensor) or not pred.is_floating_point():
            wrong('pred', 'a floating-point tensor', describe(pred), TypeError)
        if pred.ndim == 0 or (pred.ndim > 1 and pred.shape[-1] == 0):
            wrong('pred', 'of shape (..., C) with C >= 1', tuple(pred.shape))
        checked = check_target(
            target, pred, use_sigmoid=self.use_sigmoid, ignore_index=self.ignore_index
        )
        num_classes = pred.shape[-1] if pred.ndim > 1 else 1
        self.check_classes(num_classes)
        lead = pred.shape[:-1] if pred.ndim > 1 else pred.shape
        return pred.reshape(-1, num_classes), checked, check_weight(weight, lead, num_classes)

    def check_classes(self, num_classes: int) -> None:
        """Raise ValueError if the loss is set up for another number of classes."""
        for name in self._one_per_class:
            values = getattr(self, name)
            if len(values) != num_classes:
                wrong(name, f'one value for each of the {num_classes} classes', values.tolist())

    def _set_per_class(
        self,
        name: str,
        value: object,
        low: float = -math.inf,
        high: float = math.inf,
        optional: bool = False,
    ) -> None:
        """Keep a number as an attribute, and a sequence, one number per class, as a buffer."""
        checked = None if optional and value is None else check_per_class(name, value, low, high)
        if isinstance(checked, Tensor):
            self.register_buffer(name, checked, persistent=False)
            self._one_per_class += (name,)
        else:
            setattr(self, name, checked)

    def count(self, x: Tensor, checked: CheckedTarget) -> int | Tensor:
        """How many entries a plain mean is over."""
        rows = len(x) if checked.valid is None else checked.valid.sum(dtype=computed_in(x))
        return rows if self.sums_classes else rows * x.shape[1]

    @staticmethod
    def mine(loss: Tensor, valid: Tensor | None, ratio: float) -> tuple[Tensor, Tensor]:
        """Keep the hardest share of the entries; also how many those are."""
        counted = None
        if valid is not None:
            counted = valid if loss.ndim == 1 else valid[:, None].expand_as(loss)
        kept = hardest(loss, ratio, counted)
        return torch.where(kept, loss, 0.0), kept.sum()

    def extra_repr(self) -> str:
        """The settings that differ in kind from module to module."""
        return f'reduction={self.reduction!r}, loss_weight={self.loss_weight}'
