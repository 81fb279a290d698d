"""The one forward of all classification losses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from .batch import Batch, Target, TargetLike, check_batch, check_probabilities
from .checks import check_bool, check_choice, check_integer, check_number, check_per_class, wrong
from .one_pass import gradient_of, scaled_sum
from .one_pass.elementary import ANY_ORDER, Elementary
from .precision import computed_in
from .probabilities import to_logits
from .reduction import ReducedLoss, check_avg_factor, divisor, hardest, resolve_reduction
from .state import with_buffers_of_now

NO_PART_OF_THE_FORMULA = {'training', 'fused', 'reduction', 'loss_weight', 'ohem_ratio'}
Module = TypeVar('Module', bound=nn.Module)


class DenseClsLoss(ReducedLoss):
    """Base of the classification losses: a subclass adds its formula, :meth:`elementwise`.

    A loss that needs the whole batch at once, such as one that ranks predictions, brings its own
    :meth:`entries` and :meth:`total` instead.

    Args:
        use_sigmoid: sigmoid per class if True, softmax over the classes if False (only where
            ``supports_softmax``).
        reduction: 'none', 'mean' or 'sum'.
        loss_weight: factor of the result.
        activated: whether predictions are probabilities, clipped to [1e-6, 1 - 1e-6] (with the
            gradient of the clip point), instead of logits.
        ignore_index: label of rows with zero loss and gradient that no mean counts.
        label_smoothing: s in [0, 1); y(1-s) + s/2 replaces the score y (softmax: s/C).
        ohem_ratio: share in (0, 1] of the entries to keep, the largest of the unreduced loss.
            Entries of weight 0 are counted among them, ignored rows are not.
        fused: whether a reduced loss's value and gradient are computed in one compiled pass: True,
            False, or 'auto' for calls large enough to be worth it where torch.compile works.
            MMFOCALX_FUSED=0 in the environment means False everywhere. Calls with reduction 'none'
            or ``ohem_ratio``, of one row, or for other derivatives than the first by ``pred`` are
            never compiled. At infinite logits the compiled pass is NaN, also where the formula is
            not.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    supports_softmax: ClassVar[bool] = False
    sums_classes = False
    quality_aware: ClassVar[bool] = False
    """Whether the formula means the quality of a positive to be its target."""
    stops_gradient_at: ClassVar[str] = ''
    """The term of the predictions that is taken as a constant, as its docs name it; '' for none."""
    bce_settings: ClassVar[Mapping[str, Any] | None] = None
    """Arguments that make it binary cross-entropy of hard labels, if there are any."""
    needs_whole_batch: ClassVar[bool] = False
    """Whether the loss of an entry depends on other rows, so that it is no curve over a logit."""
    shift_invariant: ClassVar[bool] = False
    """Whether only differences of logits count, so that scores keep the level they start at."""
    takes_weights_as_mask: ClassVar[bool] = False
    """Whether a weight only says which entries count."""
    waits_for_positives: ClassVar[bool] = False
    """Whether the host waits for the number of positives."""
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
        **unknown: Any,
    ) -> None:
        super().__init__(reduction, loss_weight, **unknown)
        self.use_sigmoid = check_bool('use_sigmoid', use_sigmoid)
        if not use_sigmoid and not self.supports_softmax:
            wrong(
                'use_sigmoid', f'True for {type(self).__name__}, which has no softmax form', False
            )
        self.sums_classes = self.sums_classes or not use_sigmoid
        self.activated = check_bool('activated', activated)
        if ignore_index is not None:
            check_integer('ignore_index', ignore_index)
        self.ignore_index = ignore_index
        self.label_smoothing = check_number('label_smoothing', label_smoothing, low=0, below=1)
        if ohem_ratio is not None:
            check_number('ohem_ratio', ohem_ratio, above=0, high=1)
        self.ohem_ratio = ohem_ratio
        check_choice('fused', fused, ('auto', True, False))
        self.fused = fused

    @classmethod
    def example_config(cls, num_classes: int) -> dict[str, Any]:
        """A config that builds the loss for ``num_classes`` classes with its default settings."""
        return {'type': cls.__name__, 'use_sigmoid': True}

    def example_states(self) -> dict[str, dict[str, float]]:
        """States that differ to the eye, by their names: values of buffers by their paths."""
        return {'': {}}

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        """The formula: (N, C) logits and their targets to the (N, C) loss, each row by itself.

        Args:
            x: (N, C) logits.
            t: their targets.
            f: the elementary functions to use.
        """
        raise NotImplementedError

    def update_state(self, batch: Batch, counts: bool) -> None:
        """Update the state that the formula reads, if the loss has any and the call counts."""

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
                quality), both (...); or dense scores of ``pred``'s shape in [0, 1]. Integers of
                ``pred``'s shape are dense too: [0, 1] are two scores for ``pred`` of shape (2,),
                and two labels for (2, 1). Values are checked on the CPU, on an accelerator if
                MMFOCALX_CHECK_VALUES=1 asks, and never within torch.compile.
            weight: factor of the entries; of shape (...), (..., 1), (..., C), or flat with N
                or N*C elements.
            avg_factor: divisor of a mean, a number or a one-element tensor.
            reduction_override: replaces ``reduction`` for this call. A loss that is built with
                another one takes 'none' for a look at entries, which moves no state.

        Returns:
            0-d, or with reduction 'none' of ``pred``'s shape, without its last dimension where
            the loss sums over classes. float32 for half-precision predictions.

        Raises:
            TypeError, ValueError: for an argument of the wrong type, shape or value, naming it.
        """
        reduction = resolve_reduction(
            self.reduction, reduction_override, avg_factor, self.reductions
        )
        avg_factor = check_avg_factor(avg_factor)
        batch = self.check(pred, target, weight)
        # A head that overrides the reduction with 'none' looks at entries, and trains on others.
        counts = reduction != 'none' or self.reduction == 'none'
        self.update_state(batch, counts)
        if reduction != 'none' and self.ohem_ratio is None:
            return self.total(
                batch, self.loss_weight, divisor(reduction, avg_factor, self.count(batch))
            )
        if counts and self.keeps_gradient_statistics(batch):
            gradient = gradient_of(
                lambda x: self._selected(batch._replace(x=x), reduction, avg_factor).sum(), batch.x
            )
            self.update_gradient_statistics(self.gradient_statistics(batch, gradient))
        loss = self._selected(batch, reduction, avg_factor)
        if reduction != 'none':
            return loss
        lead_only = self.sums_classes and pred.ndim > 1
        return loss.reshape(pred.shape[:-1] if lead_only else pred.shape)

    def check(self, pred: Tensor, target: TargetLike, weight: Tensor | None) -> Batch:
        """The arguments of :meth:`forward`, checked and flattened."""
        batch = check_batch(
            pred, target, weight, use_sigmoid=self.use_sigmoid, ignore_index=self.ignore_index
        )
        self.check_classes(batch.num_classes)
        if self.activated:
            check_probabilities(batch.x)
        return batch

    def total(self, batch: Batch, factor: float, divisor: float | Tensor) -> Tensor:
        """``factor`` times the sum of all entries, over ``divisor``: 0-d."""
        return scaled_sum(self, batch, factor, divisor)

    def entries(self, batch: Batch, f: Elementary = ANY_ORDER) -> Tensor:
        """The weighted loss of every entry: (N, C), or (N,) where classes are summed."""
        x, valid = batch.x, batch.valid
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if valid is not None:
            x = torch.where(valid[:, None], x, 0.5 if self.activated else 0.0)
        if self.activated:
            x = to_logits(x, batch.dtype, self.use_sigmoid)
        loss = self.elementwise(x, self._smoothed(batch._replace(x=x).target), f)
        if batch.weight is not None:
            loss = loss * batch.weight.to(loss.dtype)
        if valid is not None:
            loss = torch.where(valid[:, None], loss, 0.0)
        return loss.sum(dim=1) if self.sums_classes else loss

    def count(self, batch: Batch) -> int | Tensor:
        """How many entries a plain mean is over."""
        rows: int | Tensor = len(batch.x)
        if batch.valid is not None:
            rows = batch.valid.sum(dtype=computed_in(batch.x))
        return rows if self.sums_classes else rows * batch.num_classes

    def mine(self, loss: Tensor, batch: Batch, ratio: float) -> tuple[Tensor, Tensor]:
        """Keep the hardest share of the entries; also how many those are."""
        counted = batch.valid
        if counted is not None and loss.ndim == 2:
            counted = counted[:, None].expand_as(loss)
        kept = hardest(loss, ratio, counted)
        return torch.where(kept, loss, 0.0), kept.sum()

    def _selected(self, batch: Batch, reduction: str, avg_factor: float | Tensor | None) -> Tensor:
        """The loss where its entries are kept apart, or selected before they are reduced."""
        loss, count = self.entries(batch), self.count(batch)
        if self.ohem_ratio is not None:
            loss, count = self.mine(loss, batch, self.ohem_ratio)
        if reduction == 'none':
            return self.loss_weight * loss
        return self.loss_weight * loss.sum() / divisor(reduction, avg_factor, count)

    def _smoothed(self, t: Target) -> Target:
        if not self.label_smoothing:
            return t
        uniform = 1 / 2 if self.use_sigmoid else 1 / t.score.shape[1]
        share = self.label_smoothing
        return t._replace(score=t.score * (1 - share) + share * uniform, hard=False)

    # What the one pass asks of a loss beside its entries.

    def settings(self) -> tuple[Hashable, ...]:
        """What makes one pass different from another."""
        return _settings(self)

    def with_state_of_now(self: Module) -> Module:
        """The loss, or a shallow copy that later updates of its state do not reach."""
        return with_buffers_of_now(self)

    def keeps_gradient_statistics(self, batch: Batch) -> bool:
        """Whether this forward adds to a state that is made of the loss's gradient."""
        return False

    def gradient_statistics(self, batch: Batch, gradient: Tensor) -> Tensor:
        """What that state takes of the gradient by the predictions, (N, C)."""
        raise NotImplementedError

    def update_gradient_statistics(self, statistics: Tensor) -> None:
        """Add that to the state."""
        raise NotImplementedError

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

    def extra_repr(self) -> str:
        """The settings that differ in kind from module to module."""
        return f'reduction={self.reduction!r}, loss_weight={self.loss_weight}'


def _settings(module: nn.Module) -> tuple[Hashable, ...]:
    own = (
        (name, value)
        for name, value in vars(module).items()
        if name[0] != '_'
        and name not in NO_PART_OF_THE_FORMULA
        and (value is None or isinstance(value, (bool, int, float, str)))
    )
    inner = (_settings(child) for child in module.children())
    return (type(module), *own, *(name for name, _ in module.named_buffers()), *inner)
