from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import FoveaHead
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.registry import MODELS
from torch import Tensor

from ..targets import (
    BatchedTargetsHead,
    Kept,
    Matched,
    Owners,
    Positives,
    boxes_by_number,
    decode_foveas,
    encode_foveas,
    fovea_numbers,
    labels_by_number,
    numbered,
    overridden,
    uncovered_boxes,
)
from .box_loss import Losses
from .quality import QualityAwareHead

KEPT_SIZES = 8


@MODELS.register_module()
class FoveaHeadX(BatchedTargetsHead, QualityAwareHead, FoveaHead):
    """FoveaBox's head with quality-aware classification targets.

    FoveaBox, Kong et al. 2020, https://arxiv.org/abs/1904.03797. With the normalizer 'num_pos' the
    classification loss is divided by the number of positives and images, as in mmdet. The box
    whose quality counts is the decoded one; VarifocalNet's code also clips it to the first image
    of the batch. Locations and targets are computed in single precision, with autocast too.

    The targets of all images are computed at once, and the host reads nothing of them. Where a
    subclass replaces mmdet's ``get_targets`` or ``_get_targets_single``, these are called: they
    read the scale and the corners of every object on the host.

    Args: see :class:`BatchedTargetsHead`, :class:`QualityAwareHead` and mmdet's ``FoveaHead``.
    """

    calls_by_level = False
    looks_at_every_box = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept = Kept(KEPT_SIZES)

    def _not_covered(self, objects: InstanceList) -> str | None:
        replaced = overridden(self, ('get_targets', '_get_targets_single'))
        return replaced or uncovered_boxes(objects, box_types=False)

    def match(self, cls_scores: list[Tensor], objects: InstanceList) -> Matched:
        """What the locations of a batch are matched with.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            objects: per image, the annotated ``bboxes`` and ``labels``.
        """
        sizes = [tuple(scores.shape[-2:]) for scores in cls_scores]
        levels, priors = self._kept_priors(sizes, cls_scores[0].device)
        deltas = None
        if self.takes_batch(objects):
            numbers = fovea_numbers(
                objects,
                sizes,
                strides=self.strides,
                scale_ranges=self.scale_ranges,
                sigma=self.sigma,
            ).flatten()
        else:
            found = self.get_targets(numbered(objects, self.num_classes), sizes, levels)
            labels, deltas = (self._image_by_image(each, levels) for each in found)
            numbers = labels - self.num_classes
        positives = Positives.of(numbers > 0)
        owners = Owners.of(numbers[positives.rows], objects)
        boxes = boxes_by_number(objects)[owners.number]
        of_rows = priors.repeat(len(objects), 1)[positives.rows]
        return Matched(
            labels_by_number(objects, self.num_classes)[numbers],
            positives,
            owners,
            of_rows,
            boxes,
            positives.weight[:, None].expand(-1, 4),
            reduce_mean(positives.count + len(objects)),
            deltas=encode_foveas(of_rows, boxes) if deltas is None else deltas[positives.rows],
        )

    @staticmethod
    def _image_by_image(values: Tensor, levels: list[Tensor]) -> Tensor:
        """(N, ...) values of an image after the other, given those of a level after the other."""
        images = len(values) // sum(len(level) for level in levels)
        of_levels = values.split([images * len(level) for level in levels])
        return torch.cat([each.unflatten(0, (images, -1)) for each in of_levels], 1).flatten(0, 1)

    def decode(self, priors: Tensor, pred: Tensor) -> Tensor:
        """(R, 4) boxes, xyxy, of (R, 4) predictions at (R, 3) x, y and lengths."""
        return decode_foveas(priors, pred)

    def box_avg_factor(self, matched: Matched) -> Tensor:
        return reduce_mean(matched.positives.count).clamp(min=1)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            bbox_preds: per level, (B, 4, H, W) logarithms of distances.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information; not used, as in mmdet.
            batch_gt_instances_ignore: per image, the boxes to leave out; not used, as in mmdet.
        """
        return self.losses_of(self.match(cls_scores, batch_gt_instances), cls_scores, bbox_preds)

    def _kept_priors(
        self, sizes: list[tuple[int, ...]], device: torch.device
    ) -> tuple[list[Tensor], Tensor]:
        """Per level the (P, 2) locations, and of all levels (P, 3) x, y and the level's length."""

        def make() -> tuple[list[Tensor], Tensor]:
            levels = self.prior_generator.grid_priors(sizes, device=device)
            lengths = [
                level.new_full((len(level), 1), length)
                for level, length in zip(levels, self.base_edge_list, strict=True)
            ]
            return levels, torch.cat([torch.cat(levels), torch.cat(lengths)], dim=1)

        kept: tuple[list[Tensor], Tensor] = self._kept.get((*sizes, device), make)
        return kept
