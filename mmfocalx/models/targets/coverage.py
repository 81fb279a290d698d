"""Which heads take the targets of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.task_modules import (
    BboxOverlaps2D,
    DeltaXYWHBBoxCoder,
    PseudoSampler,
)
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.utils import InstanceList
from mmengine.logging import print_log
from torch import Tensor

from mmfocalx.losses.checks import check_bool


class BatchedTargetsHead:
    """Mixin of the heads that compute the targets of all images of a batch at once.

    Args:
        args: positional arguments of the head.
        batched_targets: False for mmdet's own way, image by image, which is also taken, and
            named in the log, where the targets of a batch at once are not covered. The targets
            are equal to the last bit.
        kwargs: keyword arguments of the head.

    Raises:
        TypeError: if ``batched_targets`` is no bool.
    """

    def __init__(self, *args: Any, batched_targets: bool = True, **kwargs: Any) -> None:
        check_bool('batched_targets', batched_targets)
        super().__init__(*args, **kwargs)
        self.batched_targets = batched_targets
        self._told = False

    def _not_covered(self, objects: InstanceList) -> str | None:
        """Why the targets of a batch cannot be computed at once, None if they can."""
        raise NotImplementedError

    def takes_batch(self, objects: InstanceList) -> bool:
        """Whether the targets of a batch are computed at once; the first call logs why.

        Args:
            objects: per image, ``bboxes`` and ``labels``.
        """
        why_not = self._not_covered(objects) if self.batched_targets else 'batched_targets=False'
        if not self._told:
            self._told = True
            way = (
                'of all images at once'
                if why_not is None
                else f'image by image, as in mmdet, because of {why_not}'
            )
            print_log(f'{type(self).__name__}: targets are computed {way}.', logger='current')
        return why_not is None


def overridden(head: object, names: Sequence[str]) -> str | None:
    """The first of the methods that another package's subclass of a head replaces, in words."""
    ours = next(kind for kind in type(head).__mro__ if kind.__module__.startswith('mmfocalx.'))
    for name in names:
        if getattr(type(head), name) is not getattr(ours, name):
            return f'{type(head).__name__}.{name}'
    return None


def uncovered_boxes(objects: InstanceList, *, box_types: bool) -> str | None:
    """The first boxes that are not horizontal, in words."""
    for image in objects:
        boxes = image.bboxes
        if isinstance(boxes, Tensor) and boxes.shape[-1] == 4:
            continue
        if box_types and type(boxes) is HorizontalBoxes:
            continue
        return f'boxes of type {type(boxes).__name__}'
    return None


def uncovered_anchor_settings(head: Any, assigner: type) -> str | None:
    """The first part of an anchor head that is not covered, in words."""
    for name, covered in (('sampler', PseudoSampler), ('bbox_coder', DeltaXYWHBBoxCoder)):
        part = getattr(head, name)
        if type(part) is not covered:
            return f'{name}={type(part).__name__}'
    return uncovered_assigner('assigner', head.assigner, (assigner,))


def uncovered_assigner(name: str, assigner: Any, covered: Sequence[type]) -> str | None:
    """What is not covered of an assigner: its type or a setting, in words."""
    if type(assigner) not in covered:
        return f'{name}={type(assigner).__name__}'
    calculator = getattr(assigner, 'iou_calculator', None)
    if calculator is not None and (
        type(calculator) is not BboxOverlaps2D or calculator.dtype == 'fp16'
    ):
        return f'iou_calculator={calculator}'
    for setting in ('perm_repeat_gt_cfg', 'alpha'):
        if getattr(assigner, setting, None) is not None:
            return f'{setting} of the {name}'
    return None
