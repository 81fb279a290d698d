"""MaxIoUAssigner's rules without a loop over objects and without a read by the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from mmdet.models.task_modules import MaxIoUAssigner
from torch import Tensor

from .boxes import pairwise_overlaps
from .priors import Anchors, Outside

IGNORED = -1.0
PAIRS_AT_ONCE = {'cpu': 1 << 17}
PAIRS_AT_ONCE_ELSEWHERE = 1 << 22


class Matches(NamedTuple):
    """What the rules read of the overlaps of priors with the objects of an image, (A,) each.

    Attributes:
        best: the largest overlap with an object.
        first: the number of the first object that has it.
        last: the number of the last object that the prior is a low-quality match of, else 0.
    """

    best: Tensor
    first: Tensor
    last: Tensor

    def joined(self, later: Matches) -> Matches:
        """These, and those with objects of the same image that come later."""
        return Matches(
            torch.maximum(self.best, later.best),
            torch.where(later.best > self.best, later.first, self.first),
            torch.maximum(self.last, later.last),
        )


def assign(
    boxes: Sequence[Tensor],
    ignored_boxes: Sequence[Tensor | None],
    anchors: Anchors,
    outside: Sequence[Outside | None],
    assigner: MaxIoUAssigner,
) -> Tensor:
    """Which object each anchor belongs to in each image.

    Args:
        boxes: per image, (G, 4) boxes of the objects, xyxy.
        ignored_boxes: per image, (I, 4) boxes of what is neither object nor background, if any.
        anchors: the same for all images.
        outside: per image, which anchors take no part; None if all do.
        assigner: whose settings to follow.

    Returns:
        (B, A) float: the number of the object, which counts from 1 over all images; 0 for
        background; -1 for an anchor to leave out.
    """
    matches: list[Matches | None] = [None] * len(boxes)
    priors = anchors.columns
    divide_by = 'prior' if assigner.ignore_wrt_candidates else 'box'
    left_out = [
        ignored_priors(each, priors, assigner.ignore_iof_thr, divide_by) for each in ignored_boxes
    ]
    penalties = [None if each is None else each.penalty for each in outside]
    first_number = 1
    for parts, piece in _pieces_of_batch(boxes, len(priors[0])):
        found = _matches(parts, piece, first_number, left_out, priors, penalties, assigner)
        first_number += len(piece)
        for (image, _), later in zip(parts, found, strict=True):
            earlier = matches[image]
            matches[image] = later if earlier is None else earlier.joined(later)
    nothing = torch.zeros_like(priors[0])
    without = Matches(torch.full_like(nothing, IGNORED), nothing, nothing)
    best, first, last = (
        torch.stack(each) for each in zip(*(match or without for match in matches), strict=True)
    )
    assigned = torch.full_like(best, IGNORED)
    if isinstance(assigner.neg_iou_thr, float):
        assigned = torch.where((best >= 0) & (best < assigner.neg_iou_thr), 0.0, assigned)
    elif isinstance(assigner.neg_iou_thr, tuple):
        low, high = assigner.neg_iou_thr
        assigned = torch.where((best >= low) & (best < high), 0.0, assigned)
    assigned = torch.where(best >= assigner.pos_iou_thr, first, assigned)
    assigned = torch.where(last > 0, last, assigned)
    for i, (match, apart) in enumerate(zip(matches, penalties, strict=True)):
        if match is None:
            assigned[i].zero_()
        if apart is not None:
            assigned[i] = torch.where(apart < 0, IGNORED, assigned[i])
    return assigned


def pieces(boxes: Tensor, num_priors: int) -> tuple[Tensor, ...]:
    """The boxes in pieces, so that a matrix of a piece and the priors is small."""
    return boxes.split(_rows_at_once(boxes, num_priors))


def _rows_at_once(boxes: Tensor, num_priors: int) -> int:
    pairs = PAIRS_AT_ONCE.get(boxes.device.type, PAIRS_AT_ONCE_ELSEWHERE)
    return max(1, pairs // max(1, num_priors))


class _Part(NamedTuple):
    """How many objects of an image a piece holds."""

    image: int
    objects: int


def _pieces_of_batch(
    boxes: Sequence[Tensor], num_priors: int
) -> Iterator[tuple[list[_Part], Tensor]]:
    """The boxes of all images in pieces; of each piece, which images it holds, and its boxes."""
    owners = [i for i, image in enumerate(boxes) for _ in range(len(image))]
    start = 0
    for piece in pieces(torch.cat(list(boxes)), num_priors) if owners else ():
        held = owners[start : start + len(piece)]
        start += len(piece)
        yield [_Part(i, held.count(i)) for i in sorted(set(held))], piece


def ignored_priors(
    boxes: Tensor | None, priors: Sequence[Tensor], threshold: float, divide_by: str
) -> Tensor | None:
    """(A,) bool, the priors that lie in an ignored box; None if none is ignored."""
    if threshold <= 0 or boxes is None or not len(boxes):
        return None
    largest = [
        pairwise_overlaps(piece, priors, divide_by).amax(dim=0)
        for piece in pieces(boxes, len(priors[0]))
    ]
    return torch.stack(largest).amax(dim=0) > threshold


def _matches(
    parts: Sequence[_Part],
    boxes: Tensor,
    first_number: int,
    ignored: Sequence[Tensor | None],
    priors: Sequence[Tensor],
    outside: Sequence[Tensor | None],
    assigner: MaxIoUAssigner,
) -> list[Matches]:
    """The matches of the images with their objects in a piece."""
    next_number = first_number + len(boxes)
    number = torch.arange(first_number, next_number, dtype=torch.float, device=boxes.device)
    number = number[:, None]
    counts = [part.objects for part in parts]
    overlaps = pairwise_overlaps(boxes, priors, 'union')
    of_image = overlaps.split(counts)
    for (image, _), rows in zip(parts, of_image, strict=True):
        left_out, apart = ignored[image], outside[image]
        if left_out is not None:
            rows.masked_fill_(left_out, IGNORED)
        if apart is not None:
            rows += apart
    best = [rows.amax(dim=0) for rows in of_image]
    # Signs, 0 at a maximum and -1 elsewhere, are several times as fast as masks on a CPU.
    rank = torch.empty_like(overlaps)
    for rows, largest, to in zip(of_image, best, rank.split(counts), strict=True):
        torch.sub(rows, largest, out=to)
    numbers = rank.sign_().mul_(-next_number).add_(number)
    first = [rows.amin(dim=0) for rows in numbers.split(counts)]
    if assigner.match_low_quality:
        low_quality = _low_quality_matches(overlaps, number, assigner)
        last = [rows.amax(dim=0) for rows in low_quality.split(counts)]
    else:
        last = [torch.zeros_like(each) for each in best]
    return [Matches(*each) for each in zip(best, first, last, strict=True)]


def _low_quality_matches(overlaps: Tensor, number: Tensor, assigner: MaxIoUAssigner) -> Tensor:
    """(G, A) number of the object where it has its largest overlap, else 0."""
    if assigner.gt_max_assign_all:
        largest = overlaps.amax(dim=1, keepdim=True)
        number = torch.where(largest >= assigner.min_pos_iou, number, 0.0)
        return overlaps.sub_(largest).sign_().mul_(number).add_(number)
    largest, at = overlaps.max(dim=1, keepdim=True)
    number = torch.where(largest >= assigner.min_pos_iou, number, 0.0)
    return torch.zeros_like(overlaps).scatter_(1, at, number)
