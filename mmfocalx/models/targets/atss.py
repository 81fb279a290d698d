"""ATSSAssigner's rules for a batch at once, without a read by the host."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from mmdet.models.task_modules import ATSSAssigner
from torch import Tensor

from .boxes import pairwise_overlaps
from .candidates import first_of_best
from .max_iou import IGNORED, ignored_priors, pieces
from .priors import Anchors, Outside

FAR = 1e8
MIN_DISTANCE_TO_SIDE = 0.01


def assign(
    boxes: Sequence[Tensor],
    ignored_boxes: Sequence[Tensor | None],
    anchors: Anchors,
    outside: Sequence[Outside | None],
    assigner: ATSSAssigner,
) -> Tensor:
    """Which object each anchor belongs to in each image: see ``max_iou.assign``."""
    left_out = [
        ignored_priors(each, anchors.columns, assigner.ignore_iof_thr, 'prior')
        for each in ignored_boxes
    ]
    images = range(len(boxes))
    assigned, first_number = [], 1
    # Images that share their anchors are next to each other as a rule.
    for _, group in groupby(images, lambda i: (id(outside[i]), None if left_out[i] is None else i)):
        members = list(group)
        of_group = [boxes[i] for i in members]
        first = members[0]
        found = _assigned(
            of_group, left_out[first], anchors, outside[first], assigner.topk, first_number
        )
        first_number += sum(len(each) for each in of_group)
        assigned.append(found)
    return torch.cat(assigned)


def _assigned(
    boxes: Sequence[Tensor],
    left_out: Tensor | None,
    anchors: Anchors,
    outside: Outside | None,
    topk: int,
    first_number: int,
) -> Tensor:
    """(B, A) numbers for images whose anchors inside are the same."""
    counts = [len(image) for image in boxes]
    num_anchors = len(anchors.boxes)
    like = anchors.columns[0]
    nobody = like.new_zeros(len(counts), num_anchors)
    if outside is not None:
        nobody = torch.where(outside.penalty < 0, IGNORED, nobody)
    if not sum(counts):
        return nobody
    all_boxes = torch.cat(list(boxes))
    at = torch.cat(
        [
            _nearest(piece, left_out, anchors, outside, topk)
            for piece in pieces(all_boxes, num_anchors)
        ]
    )
    candidates = [column[at] for column in anchors.columns]
    overlap = pairwise_overlaps(all_boxes, candidates, 'union')
    chosen = overlap >= _thresholds(overlap, counts)[:, None]
    chosen &= _is_inside(all_boxes, candidates)

    image = torch.cat([at.new_full((count, 1), i) for i, count in enumerate(counts)])
    slot = image * num_anchors + at
    first, taken = first_of_best(slot, overlap, chosen, nobody.numel(), first_number)
    if left_out is not None:
        nobody = torch.where(left_out, IGNORED, nobody)
    return torch.where(taken.view_as(nobody), first.view_as(nobody), nobody)


def _nearest(
    boxes: Tensor, left_out: Tensor | None, anchors: Anchors, outside: Outside | None, topk: int
) -> Tensor:
    """(G, n) the ``topk`` anchors of each level whose centres are nearest to those of the boxes."""
    left, top, right, bottom, _ = anchors.columns
    x, y = ((boxes[:, i, None] + boxes[:, i + 2, None]) / 2 for i in (0, 1))
    distance = ((left + right) / 2 - x).square_()
    distance += ((top + bottom) / 2 - y).square_()
    distance.sqrt_()
    if left_out is not None:
        distance.masked_fill_(left_out, FAR)
    nearest, start = [], 0
    for level, of_level in enumerate(distance.split(anchors.sizes, dim=1)):
        inside = None if outside is None else outside.inside[level]
        candidates = of_level if inside is None else of_level[:, inside]
        count = min(topk, candidates.shape[1])
        at = candidates.topk(count, dim=1, largest=False).indices
        nearest.append((at if inside is None else inside[at]) + start)
        start += of_level.shape[1]
    return torch.cat(nearest, dim=1)


def _thresholds(overlap: Tensor, counts: Sequence[int]) -> Tensor:
    """(G,) mean plus standard deviation of the (G, n) overlaps of each object's candidates.

    The order in which a mean adds depends on the number of columns: so each image's has its own.
    """
    thresholds = []
    for of_image in overlap.split([count for count in counts if count]):
        columns = of_image.t().contiguous()
        thresholds.append(columns.mean(dim=0) + columns.std(dim=0))
    return torch.cat(thresholds)


def _is_inside(boxes: Tensor, candidates: Sequence[Tensor]) -> Tensor:
    """(G, n) whether the centres of the candidates lie in their boxes."""
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    x, y = ((candidates[i] + candidates[i + 2]) / 2 for i in (0, 1))
    to_side = torch.minimum(torch.minimum(x - left, y - top), torch.minimum(right - x, bottom - y))
    return to_side > MIN_DISTANCE_TO_SIDE
