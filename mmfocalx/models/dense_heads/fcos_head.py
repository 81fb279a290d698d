from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmfocalx.losses.checks import check_bool

from ..targets import (
    BatchedTargetsHead,
    Kept,
    Owners,
    Points,
    Positives,
    overridden,
    point_targets,
    uncovered_boxes,
)
from .box_loss import box_loss
from .quality import Losses, QualityAwareHead

MIN_CENTERNESS_SUM = 1e-6
KEPT_SIZES = 8


class _NoCenterness(nn.Module):
    """Stands where the centerness branch was dropped."""

    def forward(self, x: Tensor) -> None:
        return None


@MODELS.register_module()
class FCOSHeadX(BatchedTargetsHead, QualityAwareHead, FCOSHead):
    """FCOS's head with quality-aware classification targets.

    Args:
        args: positional arguments of mmdet's ``FCOSHead``.
        centerness: whether the head has its centerness branch. Without it, the branch, its
            loss and its factor at inference are dropped: the class score alone ranks. The box
            loss is weighted by the centerness of its location either way.
        kwargs: see :class:`BatchedTargetsHead`, :class:`QualityAwareHead` and mmdet's
            ``FCOSHead``.
    """

    def __init__(self, *args: Any, centerness: bool = True, **kwargs: Any) -> None:
        self.centerness = check_bool('centerness', centerness)
        super().__init__(*args, **kwargs)
        self._kept = Kept(KEPT_SIZES)

    def _init_layers(self) -> None:
        super()._init_layers()
        if not self.centerness:
            self.conv_centerness = _NoCenterness()

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Per level: class scores, box distances and, where it has the branch, centerness."""
        outs = super().forward(x)
        return outs if self.centerness else outs[:2]

    def _not_covered(self, objects: InstanceList) -> str | None:
        replaced = overridden(self, FCOSHeadX, ('get_targets', '_get_targets_single'))
        return replaced or uncovered_boxes(objects, box_types=False)

    def get_targets(
        self, points: list[Tensor], batch_gt_instances: InstanceList
    ) -> tuple[list[Tensor], list[Tensor]]:
        """mmdet's targets, per level: (B * P,) labels and (B * P, 4) distances.

        Args:
            points: per level, (P, 2) locations.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
        """
        if not self.takes_batch(batch_gt_instances):
            return super().get_targets(points, batch_gt_instances)
        targets = point_targets(self._points(points), batch_gt_instances, self.num_classes)
        sizes = [len(level) for level in points]
        labels, distances = (
            [level.flatten(0, 1) for level in values.split(sizes, dim=1)] for values in targets[:2]
        )
        if self.norm_on_bbox:
            distances = [
                level / stride for level, stride in zip(distances, self.strides, strict=True)
            ]
        return labels, distances

    def _points(self, levels: list[Tensor]) -> Points:
        reaches = None
        if self.center_sampling:
            reaches = [stride * self.center_sample_radius for stride in self.strides]
        return Points.of(levels, self.regress_ranges, reaches)

    def centerness_target(self, pos_bbox_targets: Tensor) -> Tensor:
        """The centerness of locations, (P,), given their (P, 4) distances to a box."""
        sides = pos_bbox_targets.view(-1, 2, 2)  # left, top; right, bottom
        ratio = sides.amin(dim=1) / sides.amax(dim=1)
        return (ratio[:, 0] * ratio[:, 1]).sqrt()

    def loss_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, **kwargs: Any
    ) -> Losses:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            bbox_preds: per level, (B, 4, H, W) distances.
            args: ``centernesses``, per level (B, 1, H, W) logits, if the head has the branch;
                then, as in mmdet, ``batch_gt_instances``, ``batch_img_metas`` and
                ``batch_gt_instances_ignore``.
            kwargs: the same by name.
        """
        if not self.centerness:
            return self._losses(cls_scores, bbox_preds, None, *args, **kwargs)
        return self._losses(cls_scores, bbox_preds, *args, **kwargs)

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        batched = self.takes_batch(batch_gt_instances)
        if (
            not batched
            and self.quality == 'none'
            and self.normalizer == 'num_pos'
            and centernesses is not None
        ):
            return self.balanced(
                super().loss_by_feat(
                    cls_scores,
                    bbox_preds,
                    centernesses,
                    batch_gt_instances,
                    batch_img_metas,
                    batch_gt_instances_ignore,
                )
            )
        levels, points = self._kept_levels(cls_scores, bbox_preds[0])
        if batched:
            labels, target_distances, numbers = (
                values.flatten(0, 1)
                for values in point_targets(points, batch_gt_instances, self.num_classes)
            )
            if self.norm_on_bbox:
                strides = torch.cat(
                    [
                        level.new_full((len(level), 1), stride)
                        for level, stride in zip(levels, self.strides, strict=True)
                    ]
                )
                target_distances = (target_distances.view(-1, len(strides), 4) / strides).flatten(
                    0, 1
                )
            positives = Positives.of(numbers > 0)
            owners = Owners.of(numbers[positives.rows], batch_gt_instances)
        else:
            images = len(batch_gt_instances)
            labels, target_distances = (
                torch.cat([level.unflatten(0, (images, -1)) for level in values], dim=1).flatten(
                    0, 1
                )
                for values in self.get_targets(levels, self.told_apart(batch_gt_instances))
            )
            labels, positives, owners = self.owners_of(labels, batch_gt_instances)
        num_pos = reduce_mean(positives.count).clamp(min=1)

        locations = torch.cat(levels).repeat(len(cls_scores[0]), 1)[positives.rows]
        distances = positives.only(_flatten(bbox_preds)[positives.rows], 1)
        target_distances = positives.only(target_distances[positives.rows], 1)
        boxes, target_boxes = (
            get_box_tensor(self.bbox_coder.decode(locations, each))
            for each in (distances, target_distances)
        )
        target, score_sum = self.cls_target(labels, positives, boxes, target_boxes, owners)
        scores = _flatten(cls_scores)
        losses: Losses = dict(
            loss_cls=self.loss_cls(
                scores, target, avg_factor=self.cls_avg_factor(num_pos, score_sum)
            )
        )
        if getattr(self.loss_cls, 'custom_accuracy', False):
            losses.update(self.loss_cls.get_accuracy(scores, labels))
        centerness_targets = self.centerness_target(target_distances)
        weight = positives.only(centerness_targets, 0)
        centerness_sum = reduce_mean(weight.sum()).clamp(min=MIN_CENTERNESS_SUM)
        losses['loss_bbox'] = box_loss(
            self.loss_bbox, boxes, target_boxes, weight, centerness_sum
        ) + 0 * distances.sum(dtype=torch.float)
        if centernesses is not None:
            losses['loss_centerness'] = self.loss_centerness(
                positives.only(_flatten(centernesses)[positives.rows, 0], 0),
                centerness_targets,
                positives.weight,
                avg_factor=num_pos,
            )
        return self.balanced(losses)

    def _kept_levels(self, cls_scores: list[Tensor], like: Tensor) -> tuple[list[Tensor], Points]:
        """Per level the (P, 2) locations, and all of them with what their levels share."""
        sizes = tuple(tuple(scores.shape[-2:]) for scores in cls_scores)

        def make() -> tuple[list[Tensor], Points]:
            levels = self.prior_generator.grid_priors(sizes, dtype=like.dtype, device=like.device)
            return levels, self._points(levels)

        kept: tuple[list[Tensor], Points] = self._kept.get((sizes, like.dtype, like.device), make)
        return kept


def _flatten(levels: list[Tensor]) -> Tensor:
    """(B, channels, H, W) per level to (B * locations of all levels, channels)."""
    return torch.cat([level.flatten(2).mT for level in levels], dim=1).flatten(0, 1)
