"""PointAssigner's rules for a batch at once, without a read by the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from mmdet.models.task_modules import PointAssigner
from torch import Tensor

from .candidates import first_of_best
from .max_iou import IGNORED, pieces
from .priors import Outside

LEAST_SIDE = 1e-6


class GridPoints(NamedTuple):
    """The P points of all levels of an image.

    Attributes:
        places: (P, 2) x and y, pixels.
        sizes: how many there are of each level.
        octaves: of each level, the logarithm of its stride to the base of 2, rounded down.
    """

    places: Tensor
    sizes: tuple[int, ...]
    octaves: tuple[int, ...]

    @classmethod
    def of(cls, points: Tensor, sizes: Sequence[int], strides: Sequence[float]) -> GridPoints:
        """The points, given (P, 2 or more) x, y and the levels' sizes and strides."""
        octaves = tuple(int(math.log2(stride)) for stride in strides)
        return cls(points[:, :2].contiguous(), tuple(sizes), octaves)


def assign(
    boxes: Sequence[Tensor],
    ignored_boxes: Sequence[Tensor | None],
    points: GridPoints,
    outside: Sequence[Outside | None],
    assigner: PointAssigner,
) -> Tensor:
    """Which object each point belongs to in each image: see ``max_iou.assign``.

    As in mmdet, ignored boxes have no effect.
    """
    assigned, first_number = [], 1
    for _, group in groupby(zip(boxes, outside, strict=True), lambda image: id(image[1])):
        of_group, (apart, *_) = zip(*group, strict=True)
        assigned.append(_assigned(of_group, points, apart, assigner, first_number))
        first_number += sum(map(len, of_group))
    return torch.cat(assigned)


def _assigned(
    boxes: Sequence[Tensor],
    points: GridPoints,
    outside: Outside | None,
    assigner: PointAssigner,
    first_number: int,
) -> Tensor:
    """(B, P) numbers for images whose points inside are the same."""
    places = len(points.places)
    nobody = points.places.new_zeros(len(boxes), places)
    if outside is not None:
        nobody = torch.where(outside.penalty < 0, IGNORED, nobody)
    if not sum(map(len, boxes)):
        return nobody
    at, distance, chosen = _nearest(torch.cat(list(boxes)), points, outside, assigner)
    image = torch.cat([at.new_full((len(each), 1), i) for i, each in enumerate(boxes)])
    slot = image * places + at
    first, taken = first_of_best(slot, -distance, chosen, nobody.numel(), first_number)
    return torch.where(taken.view_as(nobody), first.view_as(nobody), nobody)


def _nearest(
    boxes: Tensor, points: GridPoints, outside: Outside | None, assigner: PointAssigner
) -> tuple[Tensor, Tensor, Tensor]:
    """The points of each octave that are nearest to each object's centre.

    Returns:
        (G, n) points, their distances in sides of the object, and whether their octave is that of
        the object.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=LEAST_SIDE)
    width, height = torch.log2(side / assigner.scale).unbind(1)
    octave = ((width + height) / 2).int()
    octave = octave.clamp(min=min(points.octaves), max=max(points.octaves))
    found = []
    for value in sorted(set(points.octaves)):
        index = _points_of(value, points, outside)
        near = [
            _distances(at, of, points.places[index]).topk(
                min(assigner.pos_num, len(index)), dim=1, largest=False
            )
            for at, of in zip(pieces(centre, len(index)), pieces(side, len(index)), strict=True)
        ]
        at = index[torch.cat([each.indices for each in near])]
        distance = torch.cat([each.values for each in near])
        found.append((at, distance, (octave == value)[:, None].expand_as(at)))
    at, distance, chosen = (torch.cat(each, dim=1) for each in zip(*found, strict=True))
    return at, distance, chosen


def _points_of(octave: int, points: GridPoints, outside: Outside | None) -> Tensor:
    """(n,) indices of the points of an octave that take part."""
    index = torch.arange(len(points.places), device=points.places.device).split(points.sizes)
    levels = [level for level, value in enumerate(points.octaves) if value == octave]
    if outside is None:
        return torch.cat([index[level] for level in levels])
    return torch.cat([index[level][outside.inside[level]] for level in levels])


def _distances(centre: Tensor, side: Tensor, places: Tensor) -> Tensor:
    """(G, n) distances of (n, 2) places from (G, 2) centres, measured in the (G, 2) sides.

    The norm is mmdet's function of the same layout: another sum of two squares differs in the last
    bit, and with it which of two places is nearer.
    """
    distance: Tensor = ((places - centre[:, None]) / side[:, None]).norm(dim=2)
    return distance
