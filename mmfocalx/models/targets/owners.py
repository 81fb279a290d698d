from __future__ import annotations

from typing import NamedTuple

import torch
from mmdet.utils import InstanceList
from torch import Tensor

from .positives import Positives


class Owners(NamedTuple):
    """Which annotated object the rows at hand belong to.

    Attributes:
        number: (R,) of the object, which counts from 1 over all images; 0 where there is none.
        counts: per image, how many objects it has.
        image: (R,) which image each row is of; None where all images have as many predictions.
    """

    number: Tensor
    counts: tuple[int, ...]
    image: Tensor | None = None

    @classmethod
    def of(cls, number: Tensor, objects: InstanceList) -> Owners:
        """The owners, given their numbers and the annotated objects per image."""
        return cls(number, tuple(len(image.labels) for image in objects))

    def largest(self, values: Tensor, positives: Positives, within: str) -> Tensor:
        """(R,) largest of the positives' values, (R,), within each row's image or object.

        Args:
            values: at least 0.
            positives: which rows are at hand; those of an image follow each other.
            within: 'image' or 'object'.
        """
        if within == 'image' and self.image is not None:
            group, groups = self.image, len(self.counts)
        elif within == 'image':
            row = torch.arange(len(positives.mask), device=values.device)[positives.rows]
            group = row.div(len(positives.mask) // len(self.counts), rounding_mode='floor')
            groups = len(self.counts)
        else:
            group, groups = self.number, 1 + sum(self.counts)
        largest = values.new_zeros(groups)
        return largest.scatter_reduce(0, group, positives.only(values, 0), 'amax')[group]


def boxes_by_number(objects: InstanceList) -> Tensor:
    """(1 + G, 4) boxes of the objects of all images by their number, the background's first."""
    background = objects[0].bboxes.new_zeros(1, 4)
    return torch.cat([background, *(image.bboxes for image in objects)])


def labels_by_number(objects: InstanceList, num_classes: int) -> Tensor:
    """(1 + G,) labels of the objects of all images by their number, the background's first."""
    background = objects[0].labels.new_full((1,), num_classes)
    return torch.cat([background, *(image.labels for image in objects)])


def numbered(objects: InstanceList, num_classes: int) -> InstanceList:
    """The objects with ``num_classes`` plus their number for a label.

    A head that hands the label of its object to each prediction tells by it, minus
    ``num_classes``, which object that was; the background has number 0.
    """
    copies, first = [], num_classes + 1
    for image in objects:
        copy = image.clone()
        copy.labels = torch.arange(
            first, first + len(image.labels), dtype=torch.long, device=image.labels.device
        )
        copies.append(copy)
        first += len(copy.labels)
    return copies
