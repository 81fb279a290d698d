from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from mmdet.models.task_modules import ATSSAssigner, MaxIoUAssigner, PointAssigner
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from . import atss, max_iou, point_assigner
from .owners import Owners, labels_by_number
from .point_assigner import GridPoints
from .positives import Positives
from .priors import Anchors, Outside

RULES: dict[type, Any] = {
    ATSSAssigner: atss,
    MaxIoUAssigner: max_iou,
    PointAssigner: point_assigner,
}


class AnchorTargets(NamedTuple):
    """Targets of all anchors of a batch, image after image: N = B * A.

    Attributes:
        labels: (N,), ``num_classes`` for background.
        label_weights: (N,), 0 for anchors to leave out.
        positives: which anchors have an object.
        boxes: (R, 4) boxes of the objects of the rows at hand, xyxy.
        owners: which object each row at hand belongs to.
        num_pos: 0-d, the number of positives, of each image at least 1, as mmdet counts.
    """

    labels: Tensor
    label_weights: Tensor
    positives: Positives
    boxes: Tensor
    owners: Owners
    num_pos: Tensor


def anchor_targets(
    anchors: Sequence[Anchors | GridPoints],
    outside: Sequence[Outside | None],
    objects: InstanceList,
    ignored: OptInstanceList,
    *,
    assigner: MaxIoUAssigner | ATSSAssigner | PointAssigner,
    num_classes: int,
    pos_weight: float,
) -> AnchorTargets:
    """The targets of a batch, equal to those of mmdet's heads with a ``PseudoSampler``.

    Args:
        anchors: per image, its anchors or points; images next to each other may share them.
        outside: per image, which anchors take no part; None if all do.
        objects: per image, ``bboxes`` and ``labels``.
        ignored: per image, ``bboxes`` to leave out, or None.
        assigner: whose settings to follow.
        num_classes: label of the background.
        pos_weight: label weight of a positive, 1 if it is not above 0.
    """
    boxes = [get_box_tensor(image.bboxes) for image in objects]
    ignored_boxes = [
        None if image is None else get_box_tensor(image.bboxes)
        for image in ignored or [None] * len(boxes)
    ]
    of_anchor = _assigned(boxes, ignored_boxes, anchors, outside, assigner)
    is_positive = of_anchor > 0
    positives = Positives.of(is_positive.flatten())

    object_of_row = of_anchor.flatten()[positives.rows].clamp(min=0).long()
    nothing = boxes[0].new_zeros(1, 4)
    box_of_row = torch.cat([nothing, *boxes])[object_of_row]
    labels = torch.full_like(positives.mask, num_classes, dtype=torch.long)
    labels[positives.rows] = labels_by_number(objects, num_classes)[object_of_row].long()
    label_weights = (of_anchor >= 0).flatten().float()
    if pos_weight > 0:
        weights_at_hand = label_weights[positives.rows]
        label_weights[positives.rows] = torch.where(positives.at_hand, pos_weight, weights_at_hand)
    num_pos = is_positive.sum(dim=1).clamp(min=1).sum(dtype=torch.float)
    owners = Owners.of(object_of_row, objects)
    return AnchorTargets(labels, label_weights, positives, box_of_row, owners, num_pos)


def _assigned(
    boxes: Sequence[Tensor],
    ignored_boxes: Sequence[Tensor | None],
    anchors: Sequence[Any],
    outside: Sequence[Outside | None],
    assigner: Any,
) -> Tensor:
    """Which object each anchor belongs to in each image: see ``max_iou.assign``."""
    assign = next(rules.assign for kind, rules in RULES.items() if isinstance(assigner, kind))
    assigned, first_number = [], 1
    images = zip(boxes, ignored_boxes, anchors, outside, strict=True)
    for _, group in groupby(images, lambda image: id(image[2])):
        of_group, ignored, (shared, *_), apart = zip(*group, strict=True)
        found = assign(of_group, ignored, shared, apart, assigner)
        if first_number > 1:
            found = torch.where(found > 0, found + (first_number - 1), found)
        assigned.append(found)
        first_number += sum(map(len, of_group))
    return torch.cat(assigned) if len(assigned) > 1 else assigned[0]
