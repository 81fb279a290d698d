"""Small heads of the DETR family, fed as in the matrix of heads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)
from mmdet.registry import MODELS

import mmfocalx  # noqa: F401  (registers)
from helpers import matrix_feeds as feeds
from helpers.matrix_detr_heads import DETR_HEADS

ROWS = {row.type: row for row in DETR_HEADS if row.type != 'GroundingDINOHead'}
THEIRS = [name for name in ROWS if not name.endswith('X')]
OURS = [f'{name}X' for name in THEIRS]
FOCAL = dict(type='FocalLoss', use_sigmoid=True, loss_weight=1.5)
VARIFOCAL = dict(type='VarifocalLossX', use_sigmoid=True)
SEVERAL_BOXES = (
    ((2.0, 2.0, 34.0, 36.0), (28.0, 24.0, 60.0, 60.0), (50.0, 8.0, 90.0, 70.0)),
    ((16.0, 10.0, 50.0, 46.0), (40.0, 40.0, 94.0, 90.0)),
)
SEVERAL_LABELS = ((0, 2, 1), (1, 1))


def build(kind: str, **settings: Any) -> Any:
    """A head whose boxes and scores differ, as those of a head in training do."""
    torch.manual_seed(0)
    row = ROWS[kind.removesuffix('X')]
    config = {**row.config, 'loss_cls': FOCAL, **settings}
    head = MODELS.build(copy.deepcopy({'type': kind, **config}))
    head.init_weights()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return head.train()


def run(head: nn.Module) -> dict[str, Tensor]:
    """The losses of the feed of the matrix."""
    row = ROWS[type(head).__name__.removesuffix('X')]
    raw = row.feed(head, row.strides)
    return {k: torch.stack(v).sum() if isinstance(v, list) else v for k, v in raw.items()}


def gradients(head: nn.Module, loss: Tensor) -> list[Tensor | None]:
    return [*torch.autograd.grad(loss, list(head.parameters()), allow_unused=True)]


@contextmanager
def objects(boxes: Any, labels: Any) -> Iterator[None]:
    """Other boxes in the two images of the feeds, with a pair of groups of denoising queries."""
    most = max(len(of_image) for of_image in boxes)
    with pytest.MonkeyPatch.context() as patch:
        samples = feeds.samples

        def ours(*_: Any, **settings: Any) -> Any:
            batch = samples(labels, **settings)
            for sample in batch:
                found = sample.gt_instances
                found.bboxes, found.labels = found.bboxes.reshape(-1, 4), found.labels.long()
            return batch

        patch.setattr(feeds, 'BOXES', boxes)
        patch.setattr(feeds, 'samples', ours)
        queries = dict(num_denoising_queries=4 * most, num_denoising_groups=2)
        patch.setattr(feeds, 'denoising', lambda: queries)
        yield


class Recorder(nn.Module):
    """Keeps what a head hands to its loss in each call."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.use_sigmoid = True
        self.calls: list[Any] = []

    def forward(self, pred: Tensor, target: Any, weight: Any = None, avg_factor: Any = None) -> Any:
        self.calls.append((pred, target, weight, avg_factor))
        return self.loss(pred, target, weight, avg_factor=avg_factor)
