"""What the anchor-based heads share: matching the anchors of a batch with its objects."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.dist import get_world_size
from torch import Tensor

from ..targets import (
    Anchors,
    AnchorTargets,
    BatchedTargetsHead,
    KeptPriors,
    Matched,
    Outside,
    Positives,
    anchor_targets,
    encode_deltas,
    outside_of,
    overridden,
    uncovered_anchor_settings,
    uncovered_boxes,
)
from .quality import QualityAwareHead

Metas = list[dict[str, Any]]


class AnchorBasedHead(BatchedTargetsHead, QualityAwareHead):
    """Mixin of the heads that match their anchors with objects.

    Args:
        args: positional arguments of the head.
        kwargs: see :class:`BatchedTargetsHead` and :class:`QualityAwareHead`.
    """

    covered_assigner: type
    reg_decoded_bbox: bool
    get_anchors: Any
    get_targets: Any
    prior_generator: Any
    assigner: Any
    train_cfg: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept_priors = KeptPriors()

    def _not_covered(self, objects: InstanceList) -> str | None:
        return (
            overridden(self, ('get_anchors', 'get_targets', '_get_targets_single'))
            or uncovered_anchor_settings(self, self.covered_assigner)
            or uncovered_boxes(objects, box_types=True)
        )

    def match(
        self,
        cls_scores: list[Tensor],
        objects: InstanceList,
        metas: Metas,
        ignored: OptInstanceList,
    ) -> Matched:
        """What the anchors of a batch are matched with.

        Args:
            cls_scores: per level, (B, num_anchors * channels, H, W) logits.
            objects: per image, the annotated ``bboxes`` and ``labels``.
            metas: per image, its meta information.
            ignored: per image, the boxes to leave out.
        """
        sizes = [scores.shape[-2:] for scores in cls_scores]
        device = cls_scores[0].device
        if not self.takes_batch(objects):
            return self._match_by_image(sizes, device, objects, metas, ignored)
        anchors = self._kept_priors.priors(self.prior_generator, sizes, device)
        border = self.train_cfg['allowed_border']
        outside = [self._kept_priors.outside(sizes, device, meta, border) for meta in metas]
        found = self._at_once(anchors, outside, objects, ignored)
        priors = _repeated(anchors.boxes, len(objects), found.positives)
        deltas = None
        if not self.reg_decoded_bbox:
            deltas = encode_deltas(priors, found.boxes, self.bbox_coder)
        return Matched(
            found.labels,
            found.positives,
            found.owners,
            priors,
            found.boxes,
            found.positives.weight[:, None].expand(-1, 4),
            found.num_pos,
            found.label_weights,
            deltas,
        )

    def _match_by_image(
        self,
        sizes: list[torch.Size],
        device: torch.device,
        objects: InstanceList,
        metas: Metas,
        ignored: OptInstanceList,
    ) -> Matched:
        """The same in mmdet's own way."""
        anchors, valid_flags = self.get_anchors(sizes, metas, device=device)
        all_priors = cat_boxes([cat_boxes(image) for image in anchors])
        *levels, num_pos = self.get_targets(
            anchors, valid_flags, self.told_apart(objects), metas, ignored
        )
        labels, label_weights, box_targets, box_weights = (
            torch.cat(level, dim=1).flatten(0, 1) for level in levels[-4:]
        )
        labels, positives, owners = self.owners_of(labels, objects)
        priors = all_priors[positives.rows]
        boxes, deltas = box_targets[positives.rows], None
        if not self.reg_decoded_bbox:
            boxes, deltas = self.decode(priors, boxes), boxes
        weights = box_weights[positives.rows]
        return Matched(
            labels, positives, owners, priors, boxes, weights, num_pos, label_weights, deltas
        )

    def targets_at_once(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        objects: InstanceList,
        metas: Metas,
        ignored: OptInstanceList,
    ) -> tuple[Any, ...] | None:
        """Targets as mmdet's ``get_targets`` returns them, if all images share their anchors.

        Returns:
            Anchors, labels, label weights, box targets and box weights, each per level, and the
            number of positives; None where the targets are not computed at once.
        """
        shared = all(levels is anchor_list[0] for levels in anchor_list)
        if not shared or not self.takes_batch(objects):
            return None
        sizes = [len(level) for level in anchor_list[0]]
        priors = get_box_tensor(cat_boxes(anchor_list[0]))
        border = self.train_cfg['allowed_border']
        outside = [
            outside_of(
                anchor_inside_flags(priors, torch.cat(flags), meta['img_shape'][:2], border),
                sizes,
                priors.device,
            )
            for flags, meta in zip(valid_flag_list, metas, strict=True)
        ]
        found = self._at_once(Anchors.of(priors, sizes), outside, objects, ignored)
        positives, boxes = found.positives, found.boxes
        if not self.reg_decoded_bbox:
            repeated = _repeated(priors, len(objects), positives)
            boxes = encode_deltas(repeated, boxes, self.bbox_coder)
        anchors_inside = torch.cat(
            [
                priors if each is None else torch.where(each.penalty[:, None] < 0, 0, priors)
                for each in outside
            ]
        )
        per_anchor = (
            anchors_inside,
            found.labels,
            found.label_weights,
            positives.spread(boxes),
            positives.mask.float()[:, None].expand(-1, 4),
        )
        levels = (
            list(values.unflatten(0, (len(objects), len(priors))).split(sizes, dim=1))
            for values in per_anchor
        )
        return (*levels, found.num_pos)

    def _at_once(
        self,
        anchors: Anchors,
        outside: list[Outside | None],
        objects: InstanceList,
        ignored: OptInstanceList,
    ) -> AnchorTargets:
        targets = anchor_targets(
            [anchors] * len(objects),
            outside,
            objects,
            ignored,
            assigner=self.assigner,
            num_classes=self.num_classes,
            pos_weight=self.train_cfg['pos_weight'],
        )
        return targets._replace(num_pos=reduce_mean(targets.num_pos))


def mean_over_ranks(number: float, like: Tensor) -> float | Tensor:
    """A number of this rank, averaged over all ranks."""
    if get_world_size() == 1:
        return number
    mean: Tensor = reduce_mean(like.new_tensor(float(number)))
    return mean


def _repeated(priors: Tensor, images: int, positives: Positives) -> Tensor:
    """(R, 4) priors of the rows at hand, given the (A, 4) priors of each image."""
    if isinstance(positives.rows, Tensor):
        return priors[positives.rows % len(priors)]
    return priors.repeat(images, 1)
