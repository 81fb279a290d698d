"""The forward of losses with one value for each sample: masks and boxes."""

from __future__ import annotations

from torch import Tensor

from .precision import computed_in
from .reduction import ReducedLoss, check_avg_factor, reduce, resolve_reduction


class PerSampleLoss(ReducedLoss):
    """Base of the losses of masks and boxes: a subclass checks its inputs and has a formula."""

    def check(
        self, pred: Tensor, target: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Predictions, targets and (N,) weights, checked."""
        raise NotImplementedError

    def per_sample(self, pred: Tensor, target: Tensor) -> Tensor:
        """The formula: what :meth:`check` returns to the (N,) loss."""
        raise NotImplementedError

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
            pred: N predictions, of the shape that the class names.
            target: their targets, of the same shape.
            weight: (N,) factor of the samples, or what else the class names.
            avg_factor: divisor of a mean, a number or a one-element tensor.
            reduction_override: replaces ``reduction`` for this call.

        Returns:
            0-d, or (N,) with reduction 'none'.

        Raises:
            TypeError, ValueError: for an argument of the wrong type, shape or value, naming it.
        """
        reduction = resolve_reduction(self.reduction, reduction_override, avg_factor)
        avg_factor = check_avg_factor(avg_factor)
        pred, target, weight = self.check(pred, target, weight)
        pred = pred.to(computed_in(pred))
        loss = self.per_sample(pred, target.to(pred.dtype))
        if weight is not None:
            loss = loss * weight.to(loss.dtype)
        return self.loss_weight * reduce(loss, reduction, avg_factor, len(loss))
