from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.utils import InstanceList
from torch import Tensor

from .max_iou import pieces

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


def point_targets(points: Points, objects: InstanceList, num_classes: int) -> tuple[Tensor, Tensor]:
    """The targets of a batch, equal to those of mmdet's ``FCOSHead`` before ``norm_on_bbox``.

    Args:
        points: the locations, the same for all images.
        objects: per image, ``bboxes``, (G, 4) xyxy, and ``labels``.
        num_classes: label of the background.

    Returns:
        (B, P) labels and (B, P, 4) distances to left, top, right and bottom. The distances of
        the background are those to an object, too.
    """
    labels, distances = [], []
    for image in objects:
        boxes = image.bboxes
        if not len(boxes):
            labels.append(image.labels.new_full((len(points.x),), num_classes))
            distances.append(boxes.new_zeros(len(points.x), 4))
            continue
        area, at = _smallest(points, boxes)
        left, top, right, bottom = boxes[at].unbind(1)
        distances.append(
            torch.stack(
                (points.x - left, points.y - top, right - points.x, bottom - points.y), dim=1
            )
        )
        labels.append(torch.where(area == INF, num_classes, image.labels[at]))
    return torch.stack(labels), torch.stack(distances)


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
