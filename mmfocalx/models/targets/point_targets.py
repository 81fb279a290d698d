from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.utils import InstanceList
from torch import Tensor

from .max_iou import pieces
from .owners import labels_by_number

INF = 1e8


class Points(NamedTuple):
    """The P locations of all levels of an image, P numbers each.

    Attributes:
        x: in pixels.
        y: in pixels.
        nearest: the smallest regression distance of the location's level, pixels.
        farthest: the largest.
        reach: how far from a centre a location may lie, pixels; None without centre sampling.
    """

    x: Tensor
    y: Tensor
    nearest: Tensor
    farthest: Tensor
    reach: Tensor | None

    @classmethod
    def of(
        cls,
        levels: Sequence[Tensor],
        regress_ranges: Sequence[tuple[float, float]],
        reaches: Sequence[float] | None,
    ) -> Points:
        """Locations given per level, (P_l, 2), with what the levels' locations share."""

        def by_level(values: Sequence[float]) -> Tensor:
            return torch.cat(
                [
                    level.new_full((len(level),), value)
                    for level, value in zip(levels, values, strict=True)
                ]
            )

        nearest, farthest = (by_level(bounds) for bounds in zip(*regress_ranges, strict=True))
        reach = None if reaches is None else by_level(reaches)
        x, y = (column.contiguous() for column in torch.cat(list(levels)).unbind(1))
        return cls(x, y, nearest, farthest, reach)


class PointTargets(NamedTuple):
    """Targets of the P locations of each of B images.

    Attributes:
        labels: (B, P), ``num_classes`` for background.
        distances: (B, P, 4) to left, top, right and bottom, pixels; those of the background are
            to an object, too.
        numbers: (B, P) numbers of the objects, from 1 over all images; 0 for background.
    """

    labels: Tensor
    distances: Tensor
    numbers: Tensor


def point_targets(points: Points, objects: InstanceList, num_classes: int) -> PointTargets:
    """The targets of a batch, equal to those of mmdet's ``FCOSHead`` before ``norm_on_bbox``.

    Args:
        points: the locations, the same for all images.
        objects: per image, ``bboxes``, (G, 4) xyxy, and ``labels``.
        num_classes: label of the background.
    """
    distances, numbers, first_number = [], [], 1
    for image in objects:
        boxes = image.bboxes
        if not len(boxes):
            distances.append(boxes.new_zeros(len(points.x), 4))
            numbers.append(torch.zeros_like(points.x, dtype=torch.long))
            continue
        area, at = _smallest(points, boxes)
        left, top, right, bottom = boxes[at].unbind(1)
        distances.append(
            torch.stack(
                (points.x - left, points.y - top, right - points.x, bottom - points.y), dim=1
            )
        )
        numbers.append(torch.where(area == INF, 0, at + first_number))
        first_number += len(boxes)
    number = torch.stack(numbers)
    labels = labels_by_number(objects, num_classes)[number]
    return PointTargets(labels, torch.stack(distances), number)


def _smallest(points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) area and index of the smallest object at each location, INF where there is none."""
    area = torch.full_like(points.x, math.inf, dtype=boxes.dtype)
    at, first = torch.zeros_like(area, dtype=torch.long), 0
    for piece in pieces(boxes, len(points.x)):
        piece_area, piece_at = _areas_of_candidates(points, piece).min(dim=0)
        at = torch.where(piece_area < area, piece_at + first, at)
        area = torch.minimum(area, piece_area)
        first += len(piece)
    return area, at


def _areas_of_candidates(points: Points, boxes: Tensor) -> Tensor:
    """(G, P) areas of the objects, INF where a location is no candidate for the object."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    to_left, to_top = points.x - left, points.y - top
    to_right, to_bottom = right - points.x, bottom - points.y
    farthest = torch.maximum(torch.maximum(to_left, to_right), torch.maximum(to_top, to_bottom))
    if points.reach is not None:
        x, y = (left + right) / 2, (top + bottom) / 2
        to_left = points.x - torch.maximum(x - points.reach, left)
        to_top = points.y - torch.maximum(y - points.reach, top)
        to_right = torch.minimum(x + points.reach, right) - points.x
        to_bottom = torch.minimum(y + points.reach, bottom) - points.y
    nearest = torch.minimum(torch.minimum(to_left, to_right), torch.minimum(to_top, to_bottom))
    candidate = (nearest > 0) & (farthest >= points.nearest) & (farthest <= points.farthest)
    return torch.where(candidate, (right - left) * (bottom - top), INF)
