"""Counts the targets that a dense head hands to its classification loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.models.utils import unpack_gt_instances
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -2


class Level(NamedTuple):
    """The predictions of a level, over all images.

    Attributes:
        stride: Pixels between neighbours.
        positives: Those of an object.
        negatives: Those of the background.
        ignored: Those that are neither.
    """

    stride: int
    positives: int
    negatives: int
    ignored: int


class TargetCounter:
    """Counts image by image; its head's ``loss_cls`` no longer computes a loss.

    Args:
        head: A dense head of mmdet.

    Attributes:
        images: Number of images.
        sizes: Of each image, (G,) square roots of the areas of the boxes.
        labels: Of each image, (G,) classes of the boxes.
        class_positives: (C,) positives of each class.
        depends_on_predictions: Whether other predictions give other labels.
    """

    def __init__(self, head: Any) -> None:
        self.head = head
        self.calls: list[tuple[Any, Tensor | None]] = []
        self.images = 0
        self.sizes: list[NDArray[np.float64]] = []
        self.labels: list[NDArray[np.int64]] = []
        self.class_positives = np.zeros(head.num_classes, dtype=np.int64)
        self.depends_on_predictions = False
        self._checked = False
        self._strides = [self._side(stride) for stride in head.prior_generator.strides]
        self._numbers = np.zeros((len(self._strides), 3), dtype=np.int64)
        self._outputs = self._run()
        head.loss_cls.forward = self._record

    def add(self, inputs: Tensor, data_samples: Sequence[Any]) -> None:
        """Count an image."""
        self.images += 1
        boxes = data_samples[0].gt_instances.bboxes
        sides = getattr(boxes, 'tensor', boxes).reshape(-1, 4)
        sides = (sides[:, 2:] - sides[:, :2]).clamp(min=0)
        self.sizes.append(sides.prod(dim=1).sqrt().double().numpy())
        self.labels.append(data_samples[0].gt_instances.labels.numpy())
        shape = tuple(inputs.shape[-2:])
        labels, level_sizes = self._labels(self._outputs, shape, data_samples)
        if not self._checked and len(boxes):
            self._checked = True
            other = self._labels(self._run(noise=1.0), shape, data_samples)[0]
            self.depends_on_predictions = not torch.equal(labels, other)
        for row, own in enumerate(labels.split(level_sizes)):
            positives = int((own >= 0).sum())
            ignored = int((own == IGNORED).sum())
            self._numbers[row] += (positives, len(own) - positives - ignored, ignored)
        found = labels[labels >= 0]
        self.class_positives += torch.bincount(found, minlength=self.head.num_classes).numpy()

    def levels(self) -> list[Level]:
        """The counts."""
        return [
            Level(stride, *map(int, row))
            for stride, row in zip(self._strides, self._numbers, strict=True)
        ]

    def _labels(
        self, outputs: Any, shape: tuple[int, ...], data_samples: Sequence[Any]
    ) -> tuple[Tensor, list[int]]:
        """(N,) class, -1 for background or IGNORED, level after level; and the levels' sizes."""
        self.calls.clear()
        head = self.head
        objects, ignored, metas = unpack_gt_instances(data_samples)
        try:
            with torch.no_grad():
                head.loss_by_feat(*self._spread(outputs, shape), objects, metas, ignored)
        except Exception as error:
            raise ValueError(
                f'The targets of {type(head).__name__} cannot be computed by themselves: '
                f'{type(error).__name__}: {error}'
            ) from error
        labels = torch.cat([self._of_call(*call) for call in self.calls] or [torch.zeros(0)])
        sizes = [
            number * side[0] * side[1]
            for number, side in zip(
                head.prior_generator.num_base_priors, self._map_sizes(shape), strict=True
            )
        ]
        if len(labels) != sum(sizes):
            raise ValueError(
                f'{type(head).__name__} hands {len(labels)} of {sum(sizes)} predictions to '
                'loss_cls: its foreground and background are decided elsewhere, so that no ratio '
                'can be given'
            )
        return labels, sizes

    def _of_call(self, target: Any, weight: Tensor | None) -> Tensor:
        classes = self.head.num_classes
        if isinstance(target, tuple):
            target = target[0]
        if target.dim() > 1:  # scores of each class
            labels = torch.where(target.amax(dim=1) > 0, target.argmax(dim=1), -1)
        else:
            labels = torch.where((target >= 0) & (target < classes), target, -1)
            labels = torch.where(target < 0, IGNORED, labels)
        if weight is not None and weight.numel():
            left_out = (weight.reshape(len(labels), -1) == 0).all(dim=1)
            labels = torch.where(left_out, IGNORED, labels)
        return labels.long()

    def _record(
        self, pred: Tensor, target: Any, weight: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        self.calls.append((target, weight))
        return pred.sum() * 0

    def _run(self, noise: float = 0.0) -> Any:
        """What the head predicts from maps of two by two: zeros, or noise."""
        channels, levels = self.head.in_channels, len(self._strides)
        with torch.no_grad():
            return self.head(tuple(noise * torch.randn(1, channels, 2, 2) for _ in range(levels)))

    def _spread(self, outputs: Any, shape: tuple[int, ...]) -> Any:
        """The predictions of a corner everywhere: a forward pass for each image would take long."""
        sizes = self._map_sizes(shape)
        return [
            [level[..., :1, :1].expand(*level.shape[:-2], *size)
             for level, size in zip(kind, sizes, strict=True)]
            for kind in outputs
        ]  # fmt: skip

    def _map_sizes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        return [(-(-shape[0] // stride), -(-shape[1] // stride)) for stride in self._strides]

    @staticmethod
    def _side(stride: Any) -> int:
        return int(stride[0] if isinstance(stride, (tuple, list)) else stride)
