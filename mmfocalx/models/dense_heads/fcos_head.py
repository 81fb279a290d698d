from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.registry import MODELS
from torch import Tensor

from ..targets import (
    BatchedTargetsHead,
    Kept,
    Matched,
    Owners,
    Points,
    Positives,
    overridden,
    point_targets,
    uncovered_boxes,
)
from .box_loss import Losses
from .centerness import CenternessHead, centerness_of
from .quality import flatten

KEPT_SIZES = 8


@MODELS.register_module()
class FCOSHeadX(BatchedTargetsHead, CenternessHead, FCOSHead):
    """FCOS's head with quality-aware classification targets.

    Args: see :class:`BatchedTargetsHead`, :class:`CenternessHead`, :class:`QualityAwareHead` and
        mmdet's ``FCOSHead``.
    """

    centerness_branch = 'conv_centerness'
    min_centerness_sum = 1e-6
    calls_by_level = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept = Kept(KEPT_SIZES)

    def _not_covered(self, objects: InstanceList) -> str | None:
        replaced = overridden(self, ('get_targets', '_get_targets_single'))
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
        labels, distances, _ = point_targets(
            self._points(points), batch_gt_instances, self.num_classes
        )
        sizes = [len(level) for level in points]
        by_level = [
            [level.flatten(0, 1) for level in values.split(sizes, dim=1)]
            for values in (labels, self._normalized(distances, points))
        ]
        return by_level[0], by_level[1]

    def _normalized(self, distances: Tensor, points: list[Tensor]) -> Tensor:
        """(B, P, 4) distances in the unit that the head predicts, given them in pixels."""
        if not self.norm_on_bbox:
            return distances
        return torch.cat(
            [
                level / stride
                for level, stride in zip(
                    distances.split([len(level) for level in points], dim=1),
                    self.strides,
                    strict=True,
                )
            ],
            dim=1,
        )

    def _points(self, levels: list[Tensor]) -> Points:
        reaches = None
        if self.center_sampling:
            reaches = [stride * self.center_sample_radius for stride in self.strides]
        return Points.of(levels, self.regress_ranges, reaches)

    def centerness_target(self, pos_bbox_targets: Tensor) -> Tensor:
        """The centerness of locations, (R,), given their (R, 4) distances to a box."""
        return centerness_of(pos_bbox_targets)

    def match(self, cls_scores: list[Tensor], objects: InstanceList, dtype: torch.dtype) -> Matched:
        """What the locations of a batch are matched with.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            objects: per image, the annotated ``bboxes`` and ``labels``.
            dtype: of the locations.
        """
        levels, points = self._kept_levels(cls_scores, dtype)
        if self.takes_batch(objects):
            labels, distances, numbers = point_targets(points, objects, self.num_classes)
            distances = self._normalized(distances, levels).flatten(0, 1)
            labels, numbers = labels.flatten(), numbers.flatten()
            positives = Positives.of(numbers > 0)
            owners = Owners.of(numbers[positives.rows], objects)
        else:
            found = self.get_targets(levels, self.told_apart(objects))
            labels, distances = (
                torch.cat(
                    [each.unflatten(0, (len(objects), -1)) for each in of_levels], dim=1
                ).flatten(0, 1)
                for of_levels in found
            )
            labels, positives, owners = self.owners_of(labels, objects)
        locations = torch.cat(levels).repeat(len(objects), 1)[positives.rows]
        distances = positives.only(distances[positives.rows], 1)
        return Matched(
            labels,
            positives,
            owners,
            locations,
            self.decode(locations, distances),
            positives.only(self.centerness_target(distances), 0),
            reduce_mean(positives.count).clamp(min=1),
        )

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        if self.like_mmdet and not self.takes_batch(batch_gt_instances):
            outs = (cls_scores, bbox_preds, centernesses)
            batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
            return self.balanced(FCOSHead.loss_by_feat(self, *outs, *batch))
        matched = self.match(cls_scores, batch_gt_instances, bbox_preds[0].dtype)
        losses = self.losses_with_centerness(matched, cls_scores, bbox_preds, centernesses)
        if getattr(self.loss_cls, 'custom_accuracy', False):
            scores = flatten(cls_scores, self.cls_out_channels)
            losses.update(self.loss_cls.get_accuracy(scores, matched.labels))
        return losses

    def _kept_levels(
        self, cls_scores: list[Tensor], dtype: torch.dtype
    ) -> tuple[list[Tensor], Points]:
        """Per level the (P, 2) locations, and all of them with what their levels share."""
        sizes = tuple(tuple(scores.shape[-2:]) for scores in cls_scores)
        device = cls_scores[0].device

        def make() -> tuple[list[Tensor], Points]:
            levels = self.prior_generator.grid_priors(sizes, dtype=dtype, device=device)
            return levels, self._points(levels)

        kept: tuple[list[Tensor], Points] = self._kept.get((sizes, dtype, device), make)
        return kept
