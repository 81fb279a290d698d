from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmfocalx.losses.checks import check_bool

from .quality import QualityAwareHead

MIN_CENTERNESS_SUM = 1e-6


class _NoCenterness(nn.Module):
    """Stands where the centerness branch was dropped."""

    def forward(self, x: Tensor) -> None:
        return None


@MODELS.register_module()
class FCOSHeadX(QualityAwareHead, FCOSHead):
    """FCOS's head with quality-aware classification targets.

    Args:
        args: positional arguments of mmdet's ``FCOSHead``.
        centerness: whether the head has its centerness branch. Without it, the branch, its
            loss and its factor at inference are dropped: the class score alone ranks. The box
            loss is weighted by the centerness of its location either way.
        kwargs: see :class:`QualityAwareHead` and mmdet's ``FCOSHead``.
    """

    def __init__(self, *args: Any, centerness: bool = True, **kwargs: Any) -> None:
        self.centerness = check_bool('centerness', centerness)
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        if not self.centerness:
            self.conv_centerness = _NoCenterness()

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Per level: class scores, box distances and, where it has the branch, centerness."""
        outs = super().forward(x)
        return outs if self.centerness else outs[:2]

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        *centernesses_and_batch: Any,
        **batch: Any,
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            bbox_preds: per level, (B, 4, H, W) distances.
            centernesses_and_batch: per level, (B, 1, H, W) centerness logits if the head has
                the branch; then, as in mmdet, ``batch_gt_instances``, ``batch_img_metas`` and
                ``batch_gt_instances_ignore``.
            batch: the latter by name.
        """
        if self.quality == 'none' and self.normalizer == 'num_pos' and self.centerness:
            return super().loss_by_feat(cls_scores, bbox_preds, *centernesses_and_batch, **batch)
        if self.centerness:
            centernesses, *rest = centernesses_and_batch
            return self._losses(cls_scores, bbox_preds, centernesses, *rest, **batch)
        return self._losses(cls_scores, bbox_preds, None, *centernesses_and_batch, **batch)

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor]:
        points_per_level = self.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in cls_scores],
            dtype=bbox_preds[0].dtype,
            device=bbox_preds[0].device,
        )
        labels_per_level, targets_per_level = self.get_targets(points_per_level, batch_gt_instances)
        labels = torch.cat(labels_per_level)
        points = torch.cat([points.repeat(len(cls_scores[0]), 1) for points in points_per_level])

        positive = ((labels >= 0) & (labels < self.num_classes)).nonzero().squeeze(1)
        distances = _flatten(bbox_preds)[positive]
        target_distances = torch.cat(targets_per_level)[positive]
        boxes = self.bbox_coder.decode(points[positive], distances)
        target_boxes = self.bbox_coder.decode(points[positive], target_distances)
        num_pos = reduce_mean(labels.new_tensor(len(positive), dtype=torch.float)).clamp(min=1)

        target, score_sum = self.cls_target(labels, positive, boxes, target_boxes)
        losses = dict(
            loss_cls=self.loss_cls(
                _flatten(cls_scores), target, avg_factor=self.cls_avg_factor(num_pos, score_sum)
            )
        )
        centerness_targets = self.centerness_target(target_distances)
        centerness_sum = reduce_mean(centerness_targets.sum()).clamp(min=MIN_CENTERNESS_SUM)
        losses['loss_bbox'] = (
            self.loss_bbox(
                boxes, target_boxes, weight=centerness_targets, avg_factor=centerness_sum
            )
            if len(positive)
            else distances.sum()
        )
        if centernesses is not None:
            logits = _flatten(centernesses)[positive, 0]
            losses['loss_centerness'] = (
                self.loss_centerness(logits, centerness_targets, avg_factor=num_pos)
                if len(positive)
                else logits.sum()
            )
        return losses


def _flatten(levels: list[Tensor]) -> Tensor:
    """(B, channels, H, W) per level to (locations, channels), images within levels."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in levels])
