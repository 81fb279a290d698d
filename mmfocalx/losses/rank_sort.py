from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import DenseClsLoss
from .batch import Batch, TargetLike, values_are_checked
from .checks import check_number, wrong
from .one_pass.elementary import ANY_ORDER, Elementary
from .precision import computed_in
from .probabilities import to_logits
from .ramps import Ramps

PAIRS = 2**18
"""Pairs of positives that are compared at once."""
NO_PART_OF_IT = {'alpha': None, 'label_smoothing': 0.0, 'ohem_ratio': None}


@MODELS.register_module()
class RankSortLossX(DenseClsLoss):
    r"""Ranks positives above negatives and sorts them by quality; there is nothing to tune.

    Rank & Sort loss, Oksuz et al. 2021, https://arxiv.org/abs/2107.11669, eq. 3 to 8. With
    positives of logits :math:`f_i` and qualities :math:`q_i`, negatives of logits :math:`b` and
    :math:`H(z) = \mathrm{clip}(z / 2\delta + 1/2, 0, 1)`, the loss of a positive is
    :math:`R_i + S_i`:

    .. math::
        R_i = \frac{\sum_b H(b - f_i)}{\sum_j H(f_j - f_i) + \sum_b H(b - f_i)}, \quad
        S_i = \frac{\sum_j H(f_j - f_i)(1 - q_j)}{\sum_j H(f_j - f_i)} -
        \frac{\sum_{q_j \ge q_i} H(f_j - f_i)(1 - q_j)}{\sum_{q_j \ge q_i} H(f_j - f_i)}

    The gradient is that of the paper's identity update, not the derivative of the value: what is
    ranked wrongly moves by its share of the error. Both are exact for every delta. Time is
    O(M log P + P^2) for M entries and P positives; torch allocates 1.8 times the logits, the
    gradient included, and 2.5 times those in half precision, while P is below 16,384 and no weight
    has a value for each entry.

    Every entry of a score above 0 is a positive, every other one a negative. Each rank of a
    distributed training ranks its own batch. The host waits once, for the number of positives.

    Only differences of logits count: scores keep the level that the bias of the head starts at,
    0.01 in mmdet's, and stay low. Set ``score_thr`` of the detector's ``test_cfg`` to 0.

    Args:
        delta: half the width > 0, in logits, of the margin in which an order counts in part.
        kwargs: see :class:`DenseClsLoss`. ``label_smoothing`` and ``ohem_ratio`` have to stay
            off, and ``fused`` changes nothing, as there is no pass to compile.

    A plain mean is over the positives. With reduction 'none' the error of each positive stands at
    its entry and 0 elsewhere. A weight only says which entries count: those that are not 0 must be
    equal, which is checked on the CPU.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import RankSortLossX
        >>> loss = RankSortLossX()
        >>> loss(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]))  # 1/2 / (1/2 + 1/2)
        tensor(0.5000)
        >>> loss(torch.tensor([[2.0], [0.0]]), torch.tensor([0, 1]))  # ranked well
        tensor(0.)
    """

    quality_aware = True
    needs_whole_batch = True
    shift_invariant = True
    takes_weights_as_mask = True
    waits_for_positives = True
    stops_gradient_at = 'the ranks'

    def __init__(self, *, delta: float = 0.5, **kwargs: Any) -> None:
        for name, off in NO_PART_OF_IT.items():
            if kwargs.get(name, off) != off:
                wrong(name, f'{off} for {type(self).__name__}, which ranks', kwargs[name])
        kwargs.pop('alpha', None)
        super().__init__(**kwargs)
        self.delta = check_number('delta', delta, above=0)

    def check(self, pred: Tensor, target: TargetLike, weight: Tensor | None) -> Batch:
        batch = super().check(pred, target, weight)
        if batch.weight is not None and values_are_checked(batch.weight):
            given = batch.weight[batch.weight != 0]
            if given.numel() and not bool((given == given[0]).all()):
                low, high = (bound.item() for bound in given.aminmax())
                wrong(
                    'weight',
                    'a mask, 0 or one other value',
                    f'values from {low:.9g} to {high:.9g} beside 0',
                )
        return batch

    def total(self, batch: Batch, factor: float, divisor: float | Tensor) -> Tensor:
        errors, _ = self._errors(batch)
        return errors.sum() * factor / divisor

    def entries(self, batch: Batch, f: Elementary = ANY_ORDER) -> Tensor:
        errors, index = self._errors(batch)
        flat = errors.new_zeros(batch.x.numel()).index_put((index,), errors)
        return flat.view_as(batch.x)

    def count(self, batch: Batch) -> Tensor:
        """The number of positives."""
        return _is_positive(batch).sum(dtype=computed_in(batch.x))

    def _errors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(P,) errors of the positives and the indices of their entries."""
        x = batch.x
        if self.activated:
            x = to_logits(x.to(computed_in(x)), batch.dtype, self.use_sigmoid)
        found = _is_positive(batch).reshape(-1).nonzero()[:, 0]
        index, quality = found, batch.quality
        if batch.labels is not None:
            index = found * batch.num_classes + batch.labels[found]
        if quality is None:
            quality = torch.ones(len(found), dtype=torch.float64, device=x.device)
        else:
            quality = quality.reshape(-1)[found].to(torch.float64)
        errors: Tensor = _RankAndSort.apply(x, index, quality, _left_out(batch), self.delta)
        return errors, index


def _is_positive(batch: Batch) -> Tensor:
    """Which labels, (N,), or entries, (N, C), are positives that count."""
    positive = batch.positive_quality() > 0
    if batch.weight is not None:
        positive = positive & (batch.at_label(batch.weight) != 0)
    return positive


def _left_out(batch: Batch) -> Tensor | None:
    """Bool, (N, 1) or (N, C): the entries that do not count; None if all do."""
    ignored = None if batch.valid is None else ~batch.valid[:, None]
    if batch.weight is None:
        return ignored
    masked = batch.weight == 0
    return masked if ignored is None else masked | ignored


class _RankAndSort(torch.autograd.Function):
    """The errors of all positives; backward is the identity update."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        index: Tensor,
        quality: Tensor,
        left_out: Tensor | None,
        delta: float,
    ) -> Tensor:
        dtype = computed_in(x)
        if not len(index):
            ctx.save_for_backward(x)
            ctx.ramps = None
            return x.new_zeros(0, dtype=dtype)
        f = x.reshape(-1)[index].to(torch.float64)
        ramps = Ramps(f - delta, 2 * delta, dtype)
        bins = ramps.bins(x)
        bins.view(-1)[index] = 0
        if left_out is not None:
            bins.masked_fill_(left_out, 0)
        above = ramps.over_numbers(x, bins)
        rank, worse, excess = _among_positives(f, quality, delta)
        ranking, sorting = above / (rank + above), worse * excess
        ctx.ramps, ctx.delta = ramps, delta
        ctx.save_for_backward(
            x, bins, index, left_out, f, quality, ranking + sorting, 1 / (rank + above), excess
        )
        return (ranking + sorting).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        if ctx.ramps is None:
            return torch.zeros_like(x), None, None, None, None
        bins, index, left_out, f, quality, errors, share, excess = saved
        factor = grad_output.to(torch.float64)
        gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
        ctx.ramps.weighted_sum(factor * share, x, bins, out=gradient)
        if left_out is not None:
            gradient.masked_fill_(left_out, 0)
        moved = _moved_by_better(f, quality, ctx.delta, factor * excess)
        gradient.view(-1)[index] = (moved - factor * errors).to(x.dtype)
        return gradient, None, None, None, None


def _among_positives(f: Tensor, quality: Tensor, delta: float) -> tuple[Tensor, Tensor, Tensor]:
    """What sorting needs, each (P,) float64.

    Returns:
        rank: sum over j of H(f_j - f_i).
        worse: the part of it of lower quality.
        excess: S_i over ``worse``; 0 where that is 0.
    """
    columns = torch.stack([torch.ones_like(quality), 1 - quality], dim=1)
    parts = []
    for rows in _rows_of_pairs(f):
        h, lower = _pairs(f, quality, delta, rows)
        worse = h * lower
        parts.append(torch.cat([worse @ columns, h.sub_(worse) @ columns], dim=1))
    worse, worse_loss, better, better_loss = torch.cat(parts).unbind(dim=1)
    rank = worse + better
    mean = torch.where(worse > 0, worse_loss / worse, 0)
    excess = torch.where(worse > 0, (mean - better_loss / better) / rank, 0)
    return rank, worse, excess


def _moved_by_better(f: Tensor, quality: Tensor, delta: float, factor: Tensor) -> Tensor:
    """(P,): the sum of H(f_i - f_k) times k's factor over all k of higher quality than i."""
    moved = torch.zeros_like(f)
    for rows in _rows_of_pairs(f):
        h, lower = _pairs(f, quality, delta, rows)
        moved += factor[rows] @ h.mul_(lower)
    return moved


def _pairs(f: Tensor, quality: Tensor, delta: float, rows: slice) -> tuple[Tensor, Tensor]:
    """H(f_j - f_i) of some rows i and all j, and whether j is of lower quality."""
    h = f - f[rows, None]
    h.div_(2 * delta).add_(0.5).clamp_(0, 1)
    return h, quality < quality[rows, None]


def _rows_of_pairs(f: Tensor) -> list[slice]:
    step = max(1, PAIRS // len(f))
    return [slice(start, start + step) for start in range(0, len(f), step)]
