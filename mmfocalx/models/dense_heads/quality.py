"""What all heads share: the quality of a predicted box as the score of its class."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, reduce_mean
from torch import Tensor

from mmfocalx.losses import DenseClsLoss, FocalDiceLossX
from mmfocalx.losses.checks import check_choice, wrong

from ..targets import (
    Matched,
    Owners,
    Positives,
    aligned_overlaps,
    decode_deltas,
    labels_by_number,
    numbered,
)
from .box_loss import Losses, box_loss, self_balanced

MIN_QUALITY = 1e-6


class QualityAwareHead:
    """Mixin of the dense heads that hand the quality of the predicted boxes to their loss.

    Args:
        args: positional arguments of mmdet's head.
        loss_cls: config of the classification loss; must spell ``use_sigmoid`` out.
        quality: 'iou'; 'giou', as (GIoU + 1) / 2; or 'none' for mmdet's hard labels. The
            quality is that between the decoded, detached prediction and its target box,
            clamped to [1e-6, 1], as in VarifocalNet's RetinaNet (Zhang et al. 2021,
            https://arxiv.org/abs/2008.13367, section 4).
        normalizer: what divides the classification loss: 'num_pos', the number of positives,
            or 'score_sum', the sum of their scores (Feng et al. 2021,
            https://arxiv.org/abs/2108.07755, section 3.2); a mean over all ranks.
        quality_scale: what the qualities are divided by: 'none'; 'image', the largest of the
            image, so that its best prediction gets 1 (Liu et al. 2023,
            https://arxiv.org/abs/2304.04742); or 'object', the largest of the predictions that
            are assigned to the same annotated object, so that the best of each object gets 1
            (near the normalization of Feng et al. 2021, section 3.2).
        box_balance: 'none', or 'self': the box losses are multiplied by the value of the
            classification loss divided by that of their sum, without a gradient, as in Rank &
            Sort loss (Oksuz et al. 2021, https://arxiv.org/abs/2107.11669, figure 3c). Then
            their weight has no effect. Where the factor would not be finite and above 0 it is
            1, so that a loss that is not a number shows. Each rank of a distributed training
            balances its own losses. The paper's heads also weigh the box loss of a prediction by
            its largest class score; here it keeps the head's own weights.
        kwargs: keyword arguments of mmdet's head.

    Raises:
        ValueError: for an unknown ``quality``, ``normalizer``, ``quality_scale`` or
            ``box_balance``, a scale for the quality 'none', a ``loss_cls`` without
            ``use_sigmoid``, or one that does not suit the head: of probabilities, of masks,
            for another number of classes, or one that cannot take a quality.
    """

    num_classes: int
    cls_out_channels: int
    loss_cls: Any
    loss_bbox: Any
    bbox_coder: Any
    calls_by_level = True
    """Whether mmdet's head calls its classification loss for each level."""
    looks_at_every_box = True
    """Whether mmdet's head computes the box loss of all predictions, with weights of 0."""

    def __init__(
        self,
        *args: Any,
        loss_cls: dict[str, Any] | None = None,
        quality: str = 'iou',
        normalizer: str = 'num_pos',
        quality_scale: str = 'none',
        box_balance: str = 'none',
        **kwargs: Any,
    ) -> None:
        check_choice('quality', quality, ('iou', 'giou', 'none'))
        check_choice('normalizer', normalizer, ('num_pos', 'score_sum'))
        check_choice('quality_scale', quality_scale, ('none', 'image', 'object'))
        check_choice('box_balance', box_balance, ('none', 'self'))
        if quality == 'none' and quality_scale != 'none':
            wrong('quality_scale', "'none' with quality='none', which has no scale", quality_scale)
        if loss_cls is None or 'use_sigmoid' not in loss_cls:
            wrong(
                'loss_cls',
                "a config that spells out use_sigmoid=True or use_sigmoid=False (mmdet's heads "
                'read it from the config, and without it add a background channel)',
                loss_cls,
            )
        super().__init__(*args, loss_cls=loss_cls, **kwargs)  # type: ignore[call-arg]
        self.quality = quality
        self.normalizer = normalizer
        self.quality_scale = quality_scale
        self.box_balance = box_balance
        _check_loss(self.loss_cls, loss_cls, self.cls_out_channels)
        if quality != 'none' and not _takes_quality(self.loss_cls):
            wrong(
                'loss_cls',
                f'a sigmoid loss that takes (labels, quality) with quality={quality!r}; '
                "quality='none' suits any loss",
                loss_cls,
            )

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

        A quality that is not a number, of a box that is none, counts as the smallest quality:
        it is the box loss that shows that the training has diverged.

        Args:
            matched: what the predictions are matched with.
            boxes: (R, 4) predicted boxes of the rows at hand, xyxy; None with quality 'none'.
        """
        labels, positives = matched.labels, matched.positives
        if self.quality == 'none' or boxes is None:
            return labels, positives.count
        overlaps = aligned_overlaps(
            boxes.detach().float(), matched.boxes.float(), mode=self.quality
        )
        if self.quality == 'giou':
            overlaps = (overlaps + 1) / 2
        overlaps = overlaps.nan_to_num(nan=MIN_QUALITY).clamp(min=MIN_QUALITY, max=1)
        if self.quality_scale != 'none':
            largest = matched.owners.largest(overlaps, positives, within=self.quality_scale)
            overlaps = overlaps / largest
        scores = positives.spread(overlaps)
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

    def balanced(self, losses: Losses) -> Losses:
        """The losses of a head with its box losses balanced, as ``box_balance`` says."""
        return losses if self.box_balance == 'none' else self_balanced(losses)


def _check_loss(loss: torch.nn.Module, config: dict[str, Any], channels: int) -> None:
    """Raise ValueError for a loss that no dense head can hand its scores to."""
    if isinstance(loss, FocalDiceLossX):
        wrong(
            'loss_cls',
            'a classification loss, which FocalDiceLossX, a loss of masks, is not',
            config,
        )
    if not isinstance(loss, DenseClsLoss):
        return
    if loss.activated:
        wrong('loss_cls', 'a loss of logits, with activated=False', config)
    try:
        loss.check_classes(channels)
    except ValueError as error:
        wrong(
            'loss_cls',
            f"a loss for the head's {channels} channels of scores",
            config,
            hint=str(error),
        )


def _takes_quality(loss: torch.nn.Module) -> bool:
    if isinstance(loss, DenseClsLoss):
        return loss.use_sigmoid
    return isinstance(loss, QualityFocalLoss) or not type(loss).__module__.startswith('mmdet.')


def flatten(levels: list[Tensor], channels: int) -> Tensor:
    """(B, A * channels, H, W) per level to (B * anchors of all levels, channels)."""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels]
    return (flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)).flatten(0, 1)
