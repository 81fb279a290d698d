"""What is measured: a loss, a size, a type and a form of targets, on made-up predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mmfocalx.losses
from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.batch import TargetLike
from mmfocalx.losses.catalogue import classification_losses

SOFTMAX = 'FocalLossX-softmax'
WITH_MMDET = ('FocalLossX', 'VarifocalLossX', 'QualityFocalLossX')
"""The losses that mmdet has too: the ones measured most."""
FORMS = ('labels', 'tuple', 'dense')
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
POSITIVES = 0.01
"""Share of the rows that are positive."""


class Size(NamedTuple):
    """N predictions over C classes."""

    rows: int
    classes: int

    @property
    def entries(self) -> int:
        return self.rows * self.classes

    def __str__(self) -> str:
        return f'{self.rows}x{self.classes}'

    @classmethod
    def parse(cls, text: str) -> Size:
        """'100000x80' as a size.

        Raises:
            ValueError: for any other text.
        """
        rows, _, classes = text.partition('x')
        if not (rows.isdigit() and classes.isdigit() and int(rows) and int(classes)):
            raise ValueError(f'a size must be like 100000x80, but got {text!r}')
        return cls(int(rows), int(classes))


ALL_SIZES = [
    Size(rows, classes)
    for classes in (1, 20, 80, 365, 1203)
    for rows in (20_000, 100_000, 200_000, 400_000)
]
KEY_SIZES = [Size(100_000, 80), Size(20_000, 1203)]
MEMORY_SIZES = [Size(20_000, 20), Size(20_000, 80), *KEY_SIZES]


@dataclass(frozen=True)
class Case:
    """One comparison, written to one file."""

    loss: str
    size: Size
    dtype: str = 'fp32'
    form: str = 'labels'

    @property
    def name(self) -> str:
        return f'{self.loss}-{self.size}-{self.dtype}-{self.form}'

    @property
    def logits_bytes(self) -> int:
        return self.size.entries * DTYPES[self.dtype].itemsize

    @property
    def record(self) -> dict[str, Any]:
        """The case as it stands in its file."""
        return {
            'loss': self.loss,
            'rows': self.size.rows,
            'classes': self.size.classes,
            'dtype': self.dtype,
            'form': self.form,
        }

    @property
    def exists(self) -> bool:
        """Whether the loss has this form of targets."""
        return self.loss != SOFTMAX or (self.size.classes > 1 and self.form == 'labels')

    def build(self, fused: bool) -> DenseClsLoss:
        kwargs: dict[str, Any] = {'fused': fused}
        if self.loss == 'EqualizedFocalLossX':
            kwargs['num_classes'] = self.size.classes
        if self.loss == 'SlideLossX' and self.form == 'labels':
            kwargs['auto_iou'] = 0.5  # a mean quality of hard labels only brings a warning
        if self.loss == SOFTMAX:
            kwargs['use_sigmoid'] = False
        loss: DenseClsLoss = getattr(mmfocalx.losses, self.loss.split('-')[0])(**kwargs)
        return loss

    def batch(self) -> Batch:
        return Batch(self.size, DTYPES[self.dtype], self.form, background=self.loss != SOFTMAX)


class Batch:
    """Logits and targets of a case, the same in every process."""

    def __init__(self, size: Size, dtype: torch.dtype, form: str, background: bool) -> None:
        g = torch.Generator().manual_seed(0)
        rows, classes = size
        self.logits = torch.randn(rows, classes, generator=g).mul_(2).sub_(3).to(dtype)
        self.labels = torch.randint(0, classes, (rows,), generator=g)
        self.foreground = torch.rand(rows, generator=g) < POSITIVES
        self.foreground[0] = True
        if background:
            self.labels[~self.foreground] = classes
        quality = torch.rand(rows, generator=g).mul_(0.9).add_(0.1).to(dtype)
        self.quality = quality if form != 'labels' else torch.ones_like(quality)
        self.avg_factor = float(self.foreground.sum())
        self.form = form
        self._scores = self._scatter() if form == 'dense' else None

    @property
    def target(self) -> TargetLike:
        """What a loss of ours is given."""
        if self._scores is not None:
            return self._scores
        return self.labels if self.form == 'labels' else (self.labels, self.quality)

    def scores(self) -> Tensor:
        """Dense targets: as given, or made from the labels the way mmdet's heads do it."""
        return self._scatter() if self._scores is None else self._scores

    def _scatter(self) -> Tensor:
        scores = torch.zeros_like(self.logits)
        rows = (self.labels < scores.shape[1]).nonzero()[:, 0]
        scores[rows, self.labels[rows]] = self.quality[rows]
        return scores


def loss_names() -> list[str]:
    """Every classification loss of the package, and the softmax form of focal loss."""
    names = list(classification_losses())
    others = [name for name in names if name not in WITH_MMDET]
    return [*WITH_MMDET, SOFTMAX, *others]


def plan(
    losses: Sequence[str], sizes: Sequence[Size] | None, max_entries: int, everything: bool
) -> Iterator[Case]:
    """The cases to measure.

    Unless ``everything`` or sizes are asked for, the losses that mmdet lacks are measured at
    :data:`KEY_SIZES`, and half precision, tuples and dense targets at 100,000 x 80 only: each
    combination of a loss, a number of classes, a type and a form is a pass of its own to compile.
    """
    shown = [size for size in sizes or ALL_SIZES if size.entries <= max_entries]
    for loss in losses:
        for size in shown:
            for dtype in DTYPES:
                for form in FORMS:
                    case = Case(loss, size, dtype, form)
                    if case.exists and (everything or _is_main(case, sizes is not None)):
                        yield case


def _is_main(case: Case, any_size: bool) -> bool:
    if (case.dtype, case.form) == ('fp32', 'labels'):
        return any_size or case.loss in WITH_MMDET or case.size in KEY_SIZES
    if case.size != KEY_SIZES[0]:
        return False
    if case.loss in WITH_MMDET:
        return case.dtype == 'fp32' or case.form == 'labels'
    return (case.dtype, case.form) in (('fp32', 'tuple'), ('bf16', 'labels'))
