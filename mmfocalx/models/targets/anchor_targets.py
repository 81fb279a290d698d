from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.task_modules import MaxIoUAssigner
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList
from torch import Tensor

from .boxes import columns_and_area
from .max_iou import assign
from .owners import Owners, labels_by_number
from .positives import Positives


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
    priors: Tensor,
    outside: Sequence[Tensor | None],
    objects: InstanceList,
    ignored: OptInstanceList,
    *,
    assigner: MaxIoUAssigner,
    num_classes: int,
    pos_weight: float,
    columns: Sequence[Tensor] | None = None,
) -> AnchorTargets:
    """The targets of a batch, equal to those of mmdet's ``AnchorHead`` with a ``PseudoSampler``.

    Args:
        priors: (A, 4) anchors, xyxy, the same for all images.
        outside: per image, see :func:`mmfocalx.models.targets.max_iou.assign`.
        objects: per image, ``bboxes`` and ``labels``.
        ignored: per image, ``bboxes`` to leave out, or None.
        assigner: whose settings to follow.
        num_classes: label of the background.
        pos_weight: label weight of a positive, 1 if it is not above 0.
        columns: the columns and areas of the priors, where they are at hand.
    """
    columns = columns_and_area(priors) if columns is None else columns
    boxes = [get_box_tensor(image.bboxes) for image in objects]
    ignored_boxes = [
        None if image is None else get_box_tensor(image.bboxes)
        for image in ignored or [None] * len(boxes)
    ]
    of_anchor = assign(boxes, ignored_boxes, columns, outside, assigner)
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
