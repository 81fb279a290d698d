from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .batch import Batch, Target
from .checks import check_choice, check_number
from .one_pass.elementary import Elementary
from .outer import OuterLoss
from .precision import computed_in
from .probabilities import clipped

KINDS = ('concordance', 'pearson')


@MODELS.register_module()
class CorrelationLossX(OuterLoss):
    r"""Adds to another sigmoid loss that scores shall correlate with the qualities of positives.

    Correlation loss, Kahraman et al. 2023, https://arxiv.org/abs/2301.01019, eq. 4 and 5: the
    inner loss plus

    .. math::
        w \, (1 - \rho(p, q)), \quad
        \rho = \frac{2 \, \mathrm{cov}(p, q)}
        {\mathrm{var}(p) + \mathrm{var}(q) + (\bar p - \bar q)^2} \text{ (concordance)}, \quad
        \frac{\mathrm{cov}(p, q)}{\sqrt{\mathrm{var}(p) \, \mathrm{var}(q)}} \text{ (Pearson)}

    over the positives of a call at their own class. What is added is divided by no mean and has a
    gradient by p alone; it is 0 without positives. Each rank of a distributed training correlates
    its own batch.

    Args:
        loss: config of the inner loss, without the settings that belong to this one; None for
            binary cross-entropy.
        kind: 'concordance', which also asks for p = q, or 'pearson', which is 0 where p or q is
            constant.
        correlation_weight: factor w >= 0.
        kwargs: see :class:`DenseClsLoss`. There is no reduction 'none', as the correlation
            belongs to no entry. Weights also weigh the means of the correlation.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import CorrelationLossX
        >>> labels, quality = torch.tensor([0, 0]), torch.tensor([0.25, 0.75])
        >>> loss = CorrelationLossX(kind='pearson')  # of binary cross-entropy, which is ln 2
        >>> loss(torch.zeros(2, 1), (labels, quality))  # of p = 1/2: ln 2 + 0.2 * (1 - 0)
        tensor(0.8931)
    """

    reductions = ('mean', 'sum')
    needs_whole_batch = True
    bce_settings = {'correlation_weight': 0.0}

    def __init__(
        self,
        *,
        loss: dict[str, Any] | None = None,
        kind: str = 'concordance',
        correlation_weight: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(loss=loss, **kwargs)
        check_choice('kind', kind, KINDS)
        self.kind = kind
        self.correlation_weight = check_number('correlation_weight', correlation_weight, low=0)

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        """The inner loss, which all but the correlation is."""
        return self.loss.elementwise(x, t, f)

    def total(self, batch: Batch, factor: float, divisor: float | Tensor) -> Tensor:
        return super().total(batch, factor, divisor) + factor * self._added(batch)

    def _selected(self, batch: Batch, reduction: str, avg_factor: float | Tensor | None) -> Tensor:
        inner = super()._selected(batch, reduction, avg_factor)
        return inner + self.loss_weight * self._added(batch)

    def _added(self, batch: Batch) -> Tensor:
        """The 0-d term of the correlation."""
        x = batch.at_label(batch.x)
        positive = batch.positive_quality() > 0
        p = self._probability(torch.where(positive, x.to(computed_in(x)), 0.5))
        weight = quality = positive.to(p.dtype)
        if batch.quality is not None:
            quality = torch.where(positive, batch.quality.to(p.dtype), 0)
        if batch.weight is not None:
            weight = weight * batch.at_label(batch.weight).to(p.dtype)
        correlation = _CORRELATIONS[self.kind](p, quality, weight)
        some = weight.any()
        return self.correlation_weight * torch.where(some, 1 - correlation, 0).to(p.dtype)

    def _probability(self, x: Tensor) -> Tensor:
        if not self.activated:
            return x.sigmoid()
        return clipped(x.detach()) + (x - x.detach())


def _concordance(p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    """Lin 1989; 1 where p and q are the same constant."""
    (mean_p, mean_q), (var_p, var_q, cov) = _moments(p, q, weight)
    spread = var_p + var_q + (mean_p - mean_q).square()
    same = spread <= _rounding(mean_q, q)
    return torch.where(same, 1, 2 * cov / torch.where(same, 1, spread))


def _pearson(p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    """0 where p or q is constant."""
    (mean_p, mean_q), (var_p, var_q, cov) = _moments(p, q, weight)
    vary = (var_p > _rounding(mean_p, p)) & (var_q > _rounding(mean_q, q))
    return torch.where(vary, cov / torch.where(vary, var_p * var_q, 1).sqrt(), 0)


_CORRELATIONS = {'concordance': _concordance, 'pearson': _pearson}


def _moments(
    p: Tensor, q: Tensor, weight: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Weighted means, and variances and covariance, 0-d in float64."""
    total = weight.sum(dtype=torch.float64)
    total = torch.where(total > 0, total, 1)

    def mean(values: Tensor) -> Tensor:
        return (weight * values).sum(dtype=torch.float64) / total

    means = mean(p), mean(q)
    p, q = (values - own.to(p.dtype) for values, own in zip((p, q), means, strict=True))
    return means, (mean(p * p), mean(q * q), mean(p * q))


def _rounding(mean: Tensor, values: Tensor) -> Tensor:
    """A variance that is no more than rounding."""
    return (torch.finfo(values.dtype).eps * mean.detach()).square()
