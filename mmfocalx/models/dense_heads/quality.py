"""What the dense heads share: the losses of the predictions of all levels."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, reduce_mean
from torch import Tensor

from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.checks import check_choice

from ..targets import (
    Matched,
    Owners,
    Positives,
    decode_deltas,
    labels_by_number,
    numbered,
)
from .box_loss import Losses, box_loss
from .quality_scores import QualityScores


class QualityAwareHead(QualityScores):
    """Mixin of the dense heads that hand the quality of the predicted boxes to their loss.

    Args:
        args: positional arguments of mmdet's head.
        normalizer: what divides the classification loss: 'num_pos', the number of positives,
            or 'score_sum', the sum of their scores (Feng et al. 2021,
            https://arxiv.org/abs/2108.07755, section 3.2); a mean over all ranks.
        kwargs: see :class:`QualityScores`.

    Raises:
        ValueError: for an unknown ``normalizer``, and see :class:`QualityScores`.
    """

    num_classes: int
    loss_bbox: Any
    bbox_coder: Any
    calls_by_level = True
    """Whether mmdet's head calls its classification loss for each level."""
    looks_at_every_box = True
    """Whether mmdet's head computes the box loss of all predictions, with weights of 0."""

    def __init__(self, *args: Any, normalizer: str = 'num_pos', **kwargs: Any) -> None:
        check_choice('normalizer', normalizer, ('num_pos', 'score_sum'))
        super().__init__(*args, **kwargs)
        self.normalizer = normalizer

    @property
    def like_mmdet(self) -> bool:
        """Whether the losses are those of mmdet's head, but for the balance of the boxes."""
        return self.quality == 'none' and self.normalizer == 'num_pos'

    def told_apart(self, objects: InstanceList) -> InstanceList:
        """What to compute targets of, where those of mmdet tell labels, but not objects."""
        return numbered(objects, self.num_classes) if self.quality_scale == 'object' else objects

    def owners_of(self, labels: Tensor, objects: InstanceList) -> tuple[Tensor, Positives, Owners]:
        """Labels, positives and their objects, given (N,) labels from ``told_apart(objects)``."""
        if self.quality_scale != 'object':
            positives = Positives.of((labels >= 0) & (labels < self.num_classes))
            return labels, positives, Owners.of(torch.zeros_like(labels[positives.rows]), objects)
        numbers = labels - self.num_classes
        positives = Positives.of(numbers > 0)
        labels = labels_by_number(objects, self.num_classes)[numbers]
        return labels, positives, Owners.of(numbers[positives.rows], objects)

    def losses_of(
        self, matched: Matched, cls_scores: list[Tensor], bbox_preds: list[Tensor]
    ) -> Losses:
        """The losses of the predictions of all levels, given what they are matched with.

        Args:
            matched: see :class:`mmfocalx.models.targets.Matched`.
            cls_scores: per level, (B, num_anchors * channels, H, W) logits.
            bbox_preds: per level, (B, num_anchors * 4, H, W).
        """
        positives = matched.positives
        all_pred = flatten(bbox_preds, self.bbox_coder.encode_size)
        pred, box_target, boxes = positives.only(all_pred[positives.rows], 1), matched.deltas, None
        if box_target is None:
            boxes = pred = self.decode(matched.priors, pred.float())
            box_target = matched.boxes
        elif self.quality != 'none':
            boxes = self.decode(matched.priors, pred.detach().float())
        loss_cls = self.cls_loss_of(matched, boxes, cls_scores)
        box_target = positives.only(box_target, 1)
        divisor = self.box_avg_factor(matched)
        loss_bbox = box_loss(self.loss_bbox, pred, box_target, matched.box_weights, divisor)
        # A prediction that is not finite shows in the loss, wherever mmdet's head looks at it.
        seen = all_pred if self.looks_at_every_box else pred
        loss_bbox = loss_bbox + 0 * seen.sum(dtype=torch.float)
        return self.balanced(dict(loss_cls=loss_cls, loss_bbox=loss_bbox))

    def cls_loss_of(
        self, matched: Matched, boxes: Tensor | None, cls_scores: list[Tensor]
    ) -> Tensor | list[Tensor]:
        """The classification loss; the arguments are those of losses_of and cls_target."""
        target, score_sum = self.cls_target(matched, boxes)
        avg_factor = self.cls_avg_factor(matched.num_pos, score_sum)
        return self._loss_cls(cls_scores, target, matched.label_weights, avg_factor)

    def decode(self, priors: Tensor, pred: Tensor) -> Tensor:
        """(R, 4) boxes, xyxy, of the (R, 4) predictions of (R, 4) anchors or (R, 2) locations."""
        if type(self.bbox_coder) is DeltaXYWHBBoxCoder:
            return decode_deltas(get_box_tensor(priors), pred, self.bbox_coder)
        boxes: Tensor = get_box_tensor(self.bbox_coder.decode(priors, pred))
        return boxes

    def box_avg_factor(self, matched: Matched) -> float | Tensor:
        """What the box loss is divided by."""
        return matched.num_pos

    def _loss_cls(
        self,
        cls_scores: list[Tensor],
        target: Tensor | tuple[Tensor, Tensor],
        weights: Tensor | None,
        avg_factor: float | Tensor,
    ) -> Tensor | list[Tensor]:
        """The loss of all levels at once; of each level where mmdet calls its own losses so.

        mmdet's losses on labels take longer for one large call than for a few small ones.
        """
        channels = self.cls_out_channels
        at_once = isinstance(self.loss_cls, DenseClsLoss) or not self.calls_by_level
        if at_once or isinstance(target, tuple) or weights is None:
            scores = flatten(cls_scores, channels)
            loss: Tensor = self.loss_cls(scores, target, weights, avg_factor=avg_factor)
            return loss
        levels = [flatten([level], channels) for level in cls_scores]
        images = len(cls_scores[0])
        sizes = [len(level) // images for level in levels]
        labels, label_weights = (
            [level.flatten() for level in values.view(images, -1).split(sizes, dim=1)]
            for values in (target, weights)
        )
        return [
            self.loss_cls(*level, avg_factor=avg_factor)
            for level in zip(levels, labels, label_weights, strict=True)
        ]

    def cls_target(
        self, matched: Matched, boxes: Tensor | None
    ) -> tuple[Tensor | tuple[Tensor, Tensor], Tensor]:
        """The target of the classification loss and the sum of its scores.

        Args:
            matched: what the predictions are matched with.
            boxes: (R, 4) predicted boxes of the rows at hand, xyxy; None with quality 'none'.
        """
        labels, positives = matched.labels, matched.positives
        if self.quality == 'none' or boxes is None:
            return labels, positives.count
        scores = self.scores_of(boxes, matched.boxes, positives, matched.owners)
        return (labels, scores), scores.sum()

    def cls_avg_factor(self, num_pos: float | Tensor, score_sum: Tensor) -> float | Tensor:
        """The divisor of the classification loss, at least 1.

        Args:
            num_pos: number of positives, a mean over all ranks.
            score_sum: sum of the scores of this rank's positives.
        """
        if self.normalizer == 'num_pos':
            return num_pos
        return reduce_mean(score_sum).clamp(min=1)


def flatten(levels: list[Tensor], channels: int) -> Tensor:
    """(B, A * channels, H, W) per level to (B * anchors of all levels, channels)."""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels]
    return (flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)).flatten(0, 1)
