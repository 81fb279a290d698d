"""The three target forms, checked once and turned into the one that the formulas read."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import describe, wrong

TargetLike = Tensor | tuple[Tensor, Tensor]


class Target(NamedTuple):
    """What a formula sees of the targets of N predictions over C classes.

    Attributes:
        score: (N, C) target score y, after label smoothing.
        quality: (N, C) target score before label smoothing.
        hard: whether every score is known to be 0 or 1.
    """

    score: Tensor
    quality: Tensor
    hard: bool = False

    @property
    def positive(self) -> Tensor:
        """(N, C) bool: the entries whose target score is above 0."""
        return self.quality > 0


class CheckedTarget(NamedTuple):
    """A target as the user gave it, checked, its leading dimensions flattened.

    Attributes:
        labels: (N,) int64, or None for a dense target.
        quality: None for hard labels, (N,) beside labels, (N, C) for a dense target.
        valid: (N,) bool, False where the row is ignored; None if no row can be.
        classes: (C,) int32, 0..C-1, to compare labels with; None for a dense target.
    """

    labels: Tensor | None
    quality: Tensor | None
    valid: Tensor | None
    classes: Tensor | None

    def expand(self, like: Tensor) -> Target:
        """Scores over all classes, of the type of ``like``, shape (N, C)."""
        if self.labels is None or self.classes is None:
            quality = self.quality
        else:
            quality = self.labels.int()[:, None] == self.classes
            if self.quality is not None:
                quality = torch.where(quality, self.quality[:, None], 0)
        quality = quality.to(like.dtype)  # type: ignore[union-attr]
        return Target(quality, quality, self.labels is not None and self.quality is None)

    def rows(self, rows: slice) -> CheckedTarget:
        """The targets of some of the predictions."""
        labels, quality, valid = (None if part is None else part[rows] for part in self.by_row)
        return CheckedTarget(labels, quality, valid, self.classes)

    @property
    def by_row(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What has an entry, or a row, for each prediction."""
        return self.labels, self.quality, self.valid

    def positive_quality(self, num_classes: int) -> Tensor:
        """Target scores of the rows' labels, (N,), or of all entries, (N, C); 0 for negatives."""
        if self.labels is None:
            return self.quality.float()  # type: ignore[union-attr]
        foreground = (self.labels >= 0) & (self.labels < num_classes)
        if self.valid is not None:
            foreground = foreground & self.valid
        return foreground.float() if self.quality is None else (self.quality * foreground).float()


def values_are_checked(tensor: Tensor) -> bool:
    """Whether checks may read values: on the CPU, elsewhere if MMFOCALX_CHECK_VALUES=1 asks."""
    if torch.compiler.is_compiling():
        return False
    return tensor.device.type == 'cpu' or os.environ.get('MMFOCALX_CHECK_VALUES') == '1'


def check_target(
    target: TargetLike, pred: Tensor, *, use_sigmoid: bool, ignore_index: int | None
) -> CheckedTarget:
    """Check a target in any of its forms against ``pred`` and flatten it.

    Args:
        target: labels of shape (...), a tuple of labels and quality, both (...), or dense
            scores of ``pred``'s shape.
        pred: (..., C), or (N,) for one class.
        use_sigmoid: whether C counts foreground classes only, with label C as background.
        ignore_index: label of the rows to leave out, if any.

    Raises:
        TypeError: if the target or a part of it is of the wrong type.
        ValueError: if a shape does not fit, a label is out of range, or a score is outside
            [0, 1] or NaN.
    """
    lead = pred.shape[:-1] if pred.ndim > 1 else pred.shape
    num_classes = pred.shape[-1] if pred.ndim > 1 else 1
    if isinstance(target, (tuple, list)):
        if not use_sigmoid:
            wrong('target', 'labels or dense scores with use_sigmoid=False', describe(target))
        if len(target) != 2 or not all(isinstance(part, Tensor) for part in target):
            wrong('target', 'a tuple of two tensors (labels, quality)', describe(target), TypeError)
        labels, quality = target
        if quality.shape != lead:
            wrong('target[1]', f'quality of shape {tuple(lead)}', describe(quality))
        if not (quality.is_floating_point() or _is_integral(quality)):
            wrong('target[1]', 'real numbers', describe(quality), TypeError)
        quality = quality.detach().reshape(-1)
        labels, valid, classes = _check_labels(
            labels, 'target[0]', lead, num_classes, use_sigmoid, ignore_index
        )
        if valid is not None:
            quality = torch.where(valid, quality, 0)
        _check_scores('target[1]', quality)
        return CheckedTarget(labels, quality, valid, classes)
    if not isinstance(target, Tensor):
        wrong('target', 'a tensor or a tuple of two tensors', describe(target), TypeError)
    if target.shape == pred.shape:
        if target.is_complex():
            wrong('target', 'real numbers', describe(target), TypeError)
        dense = target.detach().reshape(-1, num_classes)
        _check_scores('target', dense)
        return CheckedTarget(None, dense, None, None)
    labels, valid, classes = _check_labels(
        target, 'target', lead, num_classes, use_sigmoid, ignore_index
    )
    return CheckedTarget(labels, None, valid, classes)


def _check_labels(
    labels: Tensor,
    name: str,
    lead: torch.Size,
    num_classes: int,
    use_sigmoid: bool,
    ignore_index: int | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The flat labels, which of them are not ignored, and the classes to compare them with."""
    if labels.shape != lead:
        dense = f', or dense scores of shape {(*lead, num_classes)}' if name == 'target' else ''
        wrong(name, f'labels of shape {tuple(lead)}{dense}', describe(labels))
    if not _is_integral(labels):
        wrong(name, f'integer labels for shape {tuple(lead)}', describe(labels), TypeError)
    labels = labels.reshape(-1).long()
    valid = None if ignore_index is None else labels != ignore_index
    if labels.numel() and values_are_checked(labels):
        counted = labels if valid is None else labels[valid]
        largest = num_classes if use_sigmoid else num_classes - 1
        outside = counted[(counted < 0) | (counted > largest)]
        if outside.numel():
            background = f' ({num_classes} is background)' if use_sigmoid else ''
            ignored = '' if ignore_index is None else f', or ignore_index={ignore_index}'
            wrong(
                name,
                f'labels in 0..{largest}{background}{ignored}',
                sorted(set(outside.tolist()))[:5],
            )
    return labels, valid, torch.arange(num_classes, device=labels.device, dtype=torch.int32)


def _check_scores(name: str, scores: Tensor) -> None:
    if scores.dtype == torch.bool or not scores.numel() or not values_are_checked(scores):
        return
    low, high = (bound.item() for bound in scores.aminmax())
    if not (low >= 0 and high <= 1):
        wrong(name, 'scores in [0, 1]', f'values from {low:g} to {high:g}')


def _is_integral(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
