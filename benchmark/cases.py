"""What is measured: a loss, a size, a type and a form of targets, on made-up predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor

import mmfocalx.losses  # noqa: F401  (registers)
from benchmark.peers import losses_of
from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.catalogue import classification_losses

SOFTMAX = '-softmax'
"""Ends the name of a loss in its softmax form."""
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
BATCH_SIZE = Size(1_600_000, 80)
"""RetinaNet's anchors in 8 images of 800 x 1344."""
SIZES = {
    'cpu': ALL_SIZES,
    'cuda': [Size(900, 80), Size(13_000, 80), *KEY_SIZES, BATCH_SIZE],
}
"""What is measured by default."""


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
    def record(self) -> dict[str, Any]:
        """The case as it stands in its file."""
        about = {name: value for name, value in asdict(self).items() if name != 'size'}
        return {
            **about,
            **self.size._asdict(),
            'logits_bytes': self.size.entries * DTYPES[self.dtype].itemsize,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Case:
        """The case that a file is about."""
        size = Size(record['rows'], record['classes'])
        return cls(record['loss'], size, record['dtype'], record['form'])

    @property
    def softmax(self) -> bool:
        return self.loss.endswith(SOFTMAX)

    @property
    def exists(self) -> bool:
        """Whether the loss has this form of targets."""
        return not self.softmax or (self.size.classes > 1 and self.form == 'labels')

    @property
    def is_plain(self) -> bool:
        """Whether it is in single precision with hard labels."""
        return (self.dtype, self.form) == ('fp32', 'labels')

    def build(self, fused: bool) -> DenseClsLoss:
        """The loss with its default settings."""
        kind = classification_losses()[self.loss.removesuffix(SOFTMAX)]
        config = kind.example_config(self.size.classes)
        loss: DenseClsLoss = MODELS.build(
            {**config, 'use_sigmoid': not self.softmax, 'fused': fused}
        )
        return loss

    def batch(self, device: str = 'cpu') -> Batch:
        return Batch(self, device)


class Batch:
    """Logits and targets of a case, the same in every process and on every device."""

    def __init__(self, case: Case, device: str) -> None:
        g = torch.Generator().manual_seed(0)
        rows, classes = case.size
        logits = torch.randn(rows, classes, generator=g).mul_(2).sub_(3)
        labels = torch.randint(0, classes, (rows,), generator=g)
        foreground = torch.rand(rows, generator=g) < POSITIVES
        foreground[0] = True
        if not case.softmax:
            labels[~foreground] = classes
        quality = torch.rand(rows, generator=g).mul_(0.9).add_(0.1)
        if case.form == 'labels':
            quality.fill_(1)
        dtype = DTYPES[case.dtype]
        self.logits = logits.to(device, dtype)
        self.labels, self.foreground = labels.to(device), foreground.to(device)
        self.quality = quality.to(device, dtype)
        self.avg_factor = foreground.sum().to(device, torch.float32)
        self.form = case.form
        self._scores = self._scatter() if case.form == 'dense' else None

    def target(self, forms: Sequence[str] = FORMS) -> Any:
        """The targets as given, or in the first of ``forms`` that they can be turned into.

        What has to be made is made anew in each call, as in the training of mmdet's heads.
        """
        form = self.form
        if form not in forms:
            form = 'tuple' if form == 'labels' and 'tuple' in forms else 'dense'
        if form == 'labels':
            return self.labels
        if form == 'tuple':
            return self.labels, self.quality
        return self._scatter() if self._scores is None else self._scores

    def _scatter(self) -> Tensor:
        scores = torch.zeros_like(self.logits)
        rows = (self.labels < scores.shape[1]).nonzero()[:, 0]
        scores[rows, self.labels[rows]] = self.quality[rows]
        return scores


def main_losses() -> list[str]:
    """The losses that mmdet has too: the ones measured most."""
    return [name for name in classification_losses() if name in losses_of('mmdet')]


def loss_names() -> list[str]:
    """Every classification loss, those of :func:`main_losses` first, then the softmax forms."""
    first = main_losses()
    losses = classification_losses()
    softmax = [name + SOFTMAX for name, loss in losses.items() if loss.supports_softmax]
    return [*first, *softmax, *(name for name in losses if name not in first)]


def plan(
    losses: Sequence[str],
    sizes: Sequence[Size],
    max_entries: int,
    everything: bool = False,
    every_size: bool = False,
) -> Iterator[Case]:
    """The cases to measure.

    Unless ``everything`` or ``every_size`` is asked for, the losses that mmdet lacks are measured
    at the main sizes; half precision, tuples and dense targets at 100,000 x 80 only: each
    combination of a loss, a number of classes, a type and a form is a pass of its own to compile.
    """
    for loss in losses:
        for size in sizes:
            for dtype in DTYPES:
                for form in FORMS:
                    case = Case(loss, size, dtype, form)
                    if size.entries > max_entries or not case.exists:
                        continue
                    if everything or _is_main(case, every_size):
                        yield case


def _is_main(case: Case, every_size: bool) -> bool:
    main = case.loss in main_losses()
    if case.is_plain:
        return every_size or main or case.size in (*KEY_SIZES, BATCH_SIZE)
    if case.size != KEY_SIZES[0]:
        return False
    if main:
        return case.dtype == 'fp32' or case.form == 'labels'
    return (case.dtype, case.form) in (('fp32', 'tuple'), ('bf16', 'labels'))
