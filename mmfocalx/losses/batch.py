"""What a call is about: predictions, targets in any of three forms, and weights, checked once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_on, describe, switched_on, wrong

TargetLike = Tensor | tuple[Tensor, Tensor]
PROBABILITY_EPS = 1e-6
CHECKED = 'MMFOCALX_CHECK_VALUES'
TARGETS = 'a tensor of labels or of scores, or a tuple of two tensors (labels, quality)'


class Target(NamedTuple):
    """What a formula sees of the targets of N predictions over C classes.

    Attributes:
        score: (N, C) target score y, after label smoothing.
        quality: (N, C) target score before label smoothing.
        hard: whether every score is known to be 0 or 1.
        label: (N, C) bool, the entries that labels name; None for dense targets.
    """

    score: Tensor
    quality: Tensor
    hard: bool = False
    label: Tensor | None = None

    @property
    def positive(self) -> Tensor:
        """(N, C) bool: the entries whose target score is above 0."""
        return self.quality > 0

    @property
    def matched(self) -> Tensor:
        """(N, C) bool: positives, and of labels also those whose quality is 0."""
        return self.positive if self.label is None else self.label


class Batch(NamedTuple):
    """A checked call, its leading dimensions flattened to N.

    Attributes:
        x: (N, C) predictions as given.
        labels: (N,) int64, or None for a dense target.
        quality: None for hard labels, (N,) beside labels, (N, C) for a dense target.
        valid: (N,) bool, False where the row is ignored; None if no row can be.
        weight: (N, 1), (N, C) or None.
        classes: (C,) int32, 0..C-1, if at hand.
        dtype: the type of the predictions as given; None for that of ``x``.
    """

    x: Tensor
    labels: Tensor | None = None
    quality: Tensor | None = None
    valid: Tensor | None = None
    weight: Tensor | None = None
    classes: Tensor | None = None
    dtype: torch.dtype | None = None

    @property
    def num_classes(self) -> int:
        return self.x.shape[1]

    @property
    def target(self) -> Target:
        """Scores over all classes, (N, C), of the predictions' type."""
        x = self.x
        if self.labels is None:
            scores = self.quality.to(x.dtype)  # type: ignore[union-attr]
            return Target(scores, scores)
        classes = self.classes
        if classes is None:
            classes = torch.arange(x.shape[1], device=x.device)
        label = self.labels.to(classes.dtype)[:, None] == classes
        if self.quality is None:
            scores = label.to(x.dtype)
        else:
            scores = torch.where(label, self.quality[:, None], 0).to(x.dtype)
        return Target(scores, scores, self.quality is None, label)

    def rows(self, rows: slice) -> Batch:
        """A part of the predictions, with all that belongs to it."""
        parts = [None if part is None else part[rows] for part in self.by_row]
        return Batch._make([*parts, *self[5:]])

    @property
    def by_row(self) -> tuple[Tensor | None, ...]:
        """All that has a row for each prediction."""
        return self[:5]

    def positive_quality(self) -> Tensor:
        """Target scores of the rows' labels, (N,), or of all entries, (N, C); 0 for negatives."""
        if self.labels is None:
            return self.quality.float()  # type: ignore[union-attr]
        foreground = (self.labels >= 0) & (self.labels < self.num_classes)
        if self.valid is not None:
            foreground = foreground & self.valid
        return foreground.float() if self.quality is None else (self.quality * foreground).float()


def check_batch(
    pred: Tensor,
    target: TargetLike,
    weight: Tensor | None,
    *,
    use_sigmoid: bool,
    ignore_index: int | None,
) -> Batch:
    """Check a call and flatten it.

    Args:
        pred: (..., C) predictions, or (N,) for one class.
        target: labels of shape (...), a tuple of labels and quality, both (...), or dense
            scores of ``pred``'s shape.
        weight: None, or factors of shape (...), (..., 1), (..., C), or flat with N or N * C
            elements.
        use_sigmoid: whether C counts foreground classes only, with label C as background.
        ignore_index: label of the rows to leave out, if any.

    Raises:
        TypeError: if an argument or a part of it is of the wrong type.
        ValueError: if a shape does not fit, a label is out of range, or a score is outside
            [0, 1] or NaN.
    """
    if not isinstance(pred, Tensor) or not pred.is_floating_point():
        wrong('pred', 'a floating-point tensor', describe(pred), TypeError)
    check_on('pred', pred)
    if pred.ndim == 0 or (pred.ndim > 1 and pred.shape[-1] == 0):
        wrong('pred', 'of shape (..., C) with C >= 1', tuple(pred.shape))
    lead, num_classes = (pred.shape[:-1], pred.shape[-1]) if pred.ndim > 1 else (pred.shape, 1)
    x = pred.reshape(-1, num_classes)
    if isinstance(target, Tensor):
        check_on('target', target, pred.device)
    if isinstance(target, Tensor) and target.shape == pred.shape:
        if target.is_complex():
            wrong('target', 'real numbers', describe(target), TypeError)
        scores = target.detach().reshape(-1, num_classes)
        check_scores('target', scores)
        weight = check_weight(weight, lead, num_classes, pred.device)
        return Batch(x, quality=scores, weight=weight, dtype=x.dtype)
    labels, quality, prefix = target, None, 'target'
    if isinstance(target, (tuple, list)):
        if len(target) != 2 or not all(isinstance(part, Tensor) for part in target):
            wrong('target', TARGETS, describe(target), TypeError)
        if not use_sigmoid:
            wrong('target', 'labels or dense scores with use_sigmoid=False', describe(target))
        for index, part in enumerate(target):
            check_on(f'target[{index}]', part, pred.device)
        (labels, quality), prefix = target, 'target[0]'
        if quality.shape != lead:
            wrong('target[1]', f'quality of shape {tuple(lead)}', describe(quality))
        if not (quality.is_floating_point() or _is_integral(quality)):
            wrong('target[1]', 'real numbers', describe(quality), TypeError)
        quality = quality.detach().reshape(-1)
    elif not isinstance(target, Tensor):
        wrong('target', TARGETS, describe(target), TypeError)
    labels = _flat_labels(labels, prefix, lead, num_classes)  # type: ignore[arg-type]
    valid = None if ignore_index is None else labels != ignore_index
    _check_range(prefix, labels, valid, num_classes, use_sigmoid, ignore_index)
    if quality is not None:
        if valid is not None:
            quality = torch.where(valid, quality, 0)
        check_scores('target[1]', quality)
    weight = check_weight(weight, lead, num_classes, pred.device)
    return Batch(x, labels, quality, valid, weight, dtype=x.dtype)


def check_weight(
    weight: object, lead: torch.Size, num_classes: int, device: torch.device
) -> Tensor | None:
    """Bring a weight of any accepted shape to (N, 1) or (N, C).

    Args:
        weight: of shape lead, lead + (1,), lead + (C,), or flat with N or N * C elements.
        lead: the leading dimensions of the predictions, of N elements in all.
        num_classes: C.
        device: that of the predictions.
    """
    if weight is None:
        return None
    if not isinstance(weight, Tensor):
        wrong('weight', 'a tensor', type(weight).__name__, TypeError)
    if weight.is_complex():
        wrong('weight', 'real numbers', describe(weight), TypeError)
    check_on('weight', weight, device)
    rows = math.prod(lead)
    shape = tuple(weight.shape)
    per_row = [tuple(lead), (*lead, 1), (rows,)]
    per_entry = [(*lead, num_classes), (rows * num_classes,)]
    if shape in per_row:
        return weight.reshape(rows, 1)
    if shape in per_entry:
        return weight.reshape(rows, num_classes)
    *some, last = dict.fromkeys(map(str, per_row + per_entry))
    wrong('weight', f'of shape {", ".join(some)} or {last}', shape)


def check_scores(name: str, scores: Tensor) -> None:
    """Raise ValueError if a score is outside [0, 1] or NaN."""
    if scores.dtype == torch.bool or not scores.numel() or not values_are_checked(scores):
        return
    low, high = (bound.item() for bound in plain_values(scores).aminmax())
    if not (low >= 0 and high <= 1):
        wrong(name, 'scores in [0, 1]', f'values from {low:.9g} to {high:.9g}')


def check_probabilities(pred: Tensor) -> None:
    """Raise ValueError if a prediction is outside [0, 1] by more than rounding; NaN passes."""
    if not pred.numel() or not values_are_checked(pred):
        return
    low, high = (bound.item() for bound in plain_values(pred.detach()).aminmax())
    if low < -PROBABILITY_EPS or high > 1 + PROBABILITY_EPS:
        expected = 'probabilities in [0, 1] with activated=True'
        wrong('pred', expected, f'values from {low:.9g} to {high:.9g}')


def values_are_checked(tensor: Tensor) -> bool:
    """Whether checks may read values: on the CPU, elsewhere if MMFOCALX_CHECK_VALUES=1 asks.

    Under torch.compile they never do.
    """
    if torch.compiler.is_compiling():
        return False
    return switched_on(CHECKED, '0') or tensor.device.type == 'cpu'


def plain_values(tensor: Tensor) -> Tensor:
    """All values of a tensor that transforms of torch.func have wrapped, as within vmap."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _flat_labels(labels: Tensor, name: str, lead: torch.Size, num_classes: int) -> Tensor:
    if labels.shape != lead:
        dense = f', or dense scores of shape {(*lead, num_classes)}' if name == 'target' else ''
        wrong(name, f'labels of shape {tuple(lead)}{dense}', describe(labels))
    if not _is_integral(labels):
        wrong(name, f'integer labels for shape {tuple(lead)}', describe(labels), TypeError)
    return labels.reshape(-1).long()


def _check_range(
    name: str,
    labels: Tensor,
    valid: Tensor | None,
    num_classes: int,
    use_sigmoid: bool,
    ignore_index: int | None,
) -> None:
    if not labels.numel() or not values_are_checked(labels):
        return
    highest = num_classes if use_sigmoid else num_classes - 1
    counted = plain_values(labels if valid is None else torch.where(valid, labels, 0))
    low, high = (bound.item() for bound in counted.aminmax())
    if low < 0 or high > highest:
        outside = counted[(counted < 0) | (counted > highest)]
        background = f' ({num_classes} is background)' if use_sigmoid else ''
        ignored = '' if ignore_index is None else f', or ignore_index={ignore_index}'
        expected = f'labels in 0..{highest}{background}{ignored}'
        wrong(name, expected, sorted(set(outside.tolist()))[:5])


def _is_integral(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
