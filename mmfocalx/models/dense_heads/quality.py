"""What both heads share: the quality of a predicted box as the score of its class."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import QualityFocalLoss
from mmdet.utils import reduce_mean
from torch import Tensor

from mmfocalx.losses import DenseClsLoss, FocalDiceLossX
from mmfocalx.losses.checks import check_choice, wrong

from ..targets import Positives, aligned_overlaps

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
        kwargs: keyword arguments of mmdet's head.

    Raises:
        ValueError: for an unknown ``quality`` or ``normalizer``, a ``loss_cls`` without
            ``use_sigmoid``, or one that does not suit the head: of probabilities, of masks,
            for another number of classes, or one that cannot take a quality.
    """

    def __init__(
        self,
        *args: Any,
        loss_cls: dict[str, Any] | None = None,
        quality: str = 'iou',
        normalizer: str = 'num_pos',
        **kwargs: Any,
    ) -> None:
        check_choice('quality', quality, ('iou', 'giou', 'none'))
        check_choice('normalizer', normalizer, ('num_pos', 'score_sum'))
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
        _check_loss(self.loss_cls, loss_cls, self.cls_out_channels)  # type: ignore[attr-defined]
        if quality != 'none' and not _takes_quality(self.loss_cls):  # type: ignore[attr-defined]
            wrong(
                'loss_cls',
                f'a sigmoid loss that takes (labels, quality) with quality={quality!r}; '
                "quality='none' suits any loss",
                loss_cls,
            )

    def cls_target(
        self, labels: Tensor, positives: Positives, boxes: Tensor | None, target_boxes: Tensor
    ) -> tuple[Tensor | tuple[Tensor, Tensor], Tensor]:
        """The target of the classification loss and the sum of its scores.

        A quality that is not a number, of a box that is none, counts as the smallest quality:
        it is the box loss that shows that the training has diverged.

        Args:
            labels: (N,) labels, background included.
            positives: which of them are positive, R rows of them at hand.
            boxes: (R, 4) predicted boxes of the rows at hand, xyxy; None with quality 'none'.
            target_boxes: (R, 4) their target boxes, xyxy.
        """
        if self.quality == 'none' or boxes is None:
            return labels, positives.count
        overlaps = aligned_overlaps(boxes.detach().float(), target_boxes.float(), mode=self.quality)
        if self.quality == 'giou':
            overlaps = (overlaps + 1) / 2
        overlaps = overlaps.nan_to_num(nan=MIN_QUALITY).clamp(min=MIN_QUALITY, max=1)
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
