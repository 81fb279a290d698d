"""What all heads share: the quality of a predicted box as the score of its class."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmdet.models.losses import QualityFocalLoss
from mmengine.logging import print_log
from torch import Tensor

from mmfocalx.losses import DenseClsLoss, FocalDiceLossX
from mmfocalx.losses.checks import check_choice, wrong

from ..targets import Owners, Positives, aligned_overlaps
from .box_loss import Losses, self_balanced

MIN_QUALITY = 1e-6


class QualityScores:
    """Mixin of the heads that hand the quality of the predicted boxes to their loss.

    Args:
        args: positional arguments of mmdet's head.
        loss_cls: config of the classification loss; must spell ``use_sigmoid`` out.
        quality: 'iou'; 'giou', as (GIoU + 1) / 2; or 'none' for mmdet's hard labels. The
            quality is that between the decoded, detached prediction and its target box,
            clamped to [1e-6, 1], as in VarifocalNet's RetinaNet (Zhang et al. 2021,
            https://arxiv.org/abs/2008.13367, section 4).
        quality_scale: what the qualities are divided by: 'none'; 'image', the largest of the
            image, so that its best prediction gets 1 (Liu et al. 2023,
            https://arxiv.org/abs/2304.04742); or 'object', the largest of the predictions that
            are assigned to the same annotated object, so that the best of each object gets 1
            (near the normalization of Feng et al. 2021, https://arxiv.org/abs/2108.07755,
            section 3.2). The best gets 1 also where no box overlaps its target, for which Liu
            et al. give 0.
        box_balance: 'none', or 'self': the box losses are multiplied by the value of the
            classification loss divided by that of their sum, without a gradient, as in Rank &
            Sort loss (Oksuz et al. 2021, https://arxiv.org/abs/2107.11669, figure 3c). Then
            their weight has no effect. Where the factor would not be finite and above 0 it is
            1, so that a loss that is not a number shows. Each rank of a distributed training
            balances its own losses. The paper's heads also weigh the box loss of a prediction by
            its largest class score; here it keeps the head's own weights.
        kwargs: keyword arguments of mmdet's head.

    Raises:
        ValueError: for an unknown ``quality``, ``quality_scale`` or ``box_balance``, a scale for
            the quality 'none', a ``loss_cls`` without ``use_sigmoid``, or one that does not suit
            the head: of probabilities, of masks, for another number of classes, or one that
            cannot take a quality.
    """

    cls_out_channels: int
    loss_cls: Any

    def __init__(
        self,
        *args: Any,
        loss_cls: dict[str, Any] | None = None,
        quality: str = 'iou',
        quality_scale: str = 'none',
        box_balance: str = 'none',
        **kwargs: Any,
    ) -> None:
        check_choice('quality', quality, ('iou', 'giou', 'none'))
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
        self._warn()

    def scores_of(
        self, boxes: Tensor, targets: Tensor, positives: Positives, owners: Owners
    ) -> Tensor:
        """(N,) scores of all predictions, 0 where there is no object.

        A quality that is not a number, of a box that is none, counts as the smallest quality:
        it is the box loss that shows that the training has diverged.

        Args:
            boxes: (R, 4) predicted boxes of the rows at hand, xyxy.
            targets: (R, 4) target boxes, xyxy.
            positives: which predictions are positive.
            owners: which objects the rows at hand belong to.
        """
        overlaps = aligned_overlaps(boxes.detach().float(), targets.float(), mode=self.quality)
        if self.quality == 'giou':
            overlaps = (overlaps + 1) / 2
        overlaps = overlaps.nan_to_num(nan=MIN_QUALITY).clamp(min=MIN_QUALITY, max=1)
        if self.quality_scale != 'none':
            largest = owners.largest(overlaps, positives, within=self.quality_scale)
            overlaps = overlaps / largest
        return positives.spread(overlaps)

    def balanced(self, losses: Losses) -> Losses:
        """The losses of a head with its box losses balanced, as ``box_balance`` says."""
        return losses if self.box_balance == 'none' else self_balanced(losses)

    def _warn(self) -> None:
        """Name settings that train, but hardly as meant."""
        loss, head = type(self.loss_cls).__name__, type(self).__name__
        threshold = (getattr(self, 'test_cfg', None) or {}).get('score_thr', 0)
        if getattr(self.loss_cls, 'shift_invariant', False) and threshold != 0:
            _log(
                f'{head}: {loss} ranks, and its scores keep the level that they start at. Set '
                f'score_thr={threshold} of test_cfg to 0, as it may drop most detections.'
            )
        if getattr(self.loss_cls, 'quality_aware', False) and self.quality == 'none':
            _log(
                f"{head}: {loss} is made for the quality of positives, and with quality='none' "
                "all have 1. Set quality='iou', if that is not meant."
            )


def _log(warning: str) -> None:
    print_log(warning, logger='current', level=logging.WARNING)


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
