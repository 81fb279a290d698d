"""MaxIoUAssigner's rules without a loop over objects and without a read by the host."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmdet.models.task_modules import MaxIoUAssigner
from torch import Tensor

from .boxes import pairwise_overlaps

OUTSIDE = -3.0
IGNORED = -1.0
PAIRS_AT_ONCE = {'cpu': 1 << 17}
PAIRS_AT_ONCE_ELSEWHERE = 1 << 24


def assign(
    boxes: Tensor,
    ignored_boxes: Tensor | None,
    priors: Sequence[Tensor],
    outside: Tensor | None,
    assigner: MaxIoUAssigner,
    numbered_from: int = 1,
) -> Tensor:
    """Which object of an image each prior belongs to.

    Args:
        boxes: (G, 4) boxes of the objects, xyxy.
        ignored_boxes: (I, 4) boxes of what is neither object nor background, if any.
        priors: their four columns and their areas, (A,) each.
        outside: (A,) OUTSIDE where a prior takes no part, else 0; None if all take part.
        assigner: whose settings to follow.
        numbered_from: number of the first object.

    Returns:
        (A,) float: the number of the object; 0 for background; -1 for a prior to leave out.
    """
    if not len(boxes):
        assigned = torch.zeros_like(priors[0])
    else:
        ignored = _ignored(ignored_boxes, priors, assigner)
        best, first, last = _matches(boxes, ignored, priors, outside, assigner, numbered_from)
        assigned = torch.full_like(best, IGNORED)
        if isinstance(assigner.neg_iou_thr, float):
            negative = (best >= 0) & (best < assigner.neg_iou_thr)
            assigned = torch.where(negative, 0.0, assigned)
        elif isinstance(assigner.neg_iou_thr, tuple):
            low, high = assigner.neg_iou_thr
            assigned = torch.where((best >= low) & (best < high), 0.0, assigned)
        assigned = torch.where(best >= assigner.pos_iou_thr, first, assigned)
        assigned = torch.where(last > 0, last, assigned)
    if outside is not None:
        assigned = torch.where(outside < 0, IGNORED, assigned)
    return assigned


def pieces(boxes: Tensor, num_priors: int) -> tuple[Tensor, ...]:
    """The boxes in pieces, so that a matrix of a piece and the priors is small."""
    pairs = PAIRS_AT_ONCE.get(boxes.device.type, PAIRS_AT_ONCE_ELSEWHERE)
    return boxes.split(max(1, pairs // max(1, num_priors)))


def _ignored(
    boxes: Tensor | None, priors: Sequence[Tensor], assigner: MaxIoUAssigner
) -> Tensor | None:
    """(A,) bool, the priors that lie in an ignored box; None if the assigner ignores none."""
    if assigner.ignore_iof_thr <= 0 or boxes is None or not len(boxes):
        return None
    divide_by = 'prior' if assigner.ignore_wrt_candidates else 'box'
    largest = [
        pairwise_overlaps(piece, priors, divide_by).amax(dim=0)
        for piece in pieces(boxes, len(priors[0]))
    ]
    return torch.stack(largest).amax(dim=0) > assigner.ignore_iof_thr


def _matches(
    boxes: Tensor,
    ignored: Tensor | None,
    priors: Sequence[Tensor],
    outside: Tensor | None,
    assigner: MaxIoUAssigner,
    numbered_from: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the rules read of the overlaps, which are computed for a piece of the objects a time.

    Returns:
        (A,) each: the largest overlap with an object, the number of the first object that has
        it, and the number of the last object that the prior is a low-quality match of, else 0.
    """
    best = torch.full_like(priors[0], -math.inf)
    first, last = torch.zeros_like(best), torch.zeros_like(best)
    for piece in pieces(boxes, len(best)):
        number = torch.arange(
            numbered_from, numbered_from + len(piece), dtype=torch.float, device=piece.device
        )[:, None]
        numbered_from += len(piece)
        overlaps = pairwise_overlaps(piece, priors, 'union')
        if ignored is not None:
            overlaps.masked_fill_(ignored, IGNORED)
        if outside is not None:
            overlaps += outside
        piece_best = overlaps.amax(dim=0)
        # Signs, 0 at a maximum and -1 elsewhere, are several times as fast as masks on a CPU.
        rank = torch.sub(overlaps, piece_best).sign_()
        piece_first = rank.mul_(float(numbered_from)).sub_(number).amax(dim=0).neg_()
        first = torch.where(piece_best > best, piece_first, first)
        best = torch.maximum(best, piece_best)
        if assigner.match_low_quality:
            last = torch.maximum(last, _low_quality_matches(overlaps, number, assigner))
    return best, first, last


def _low_quality_matches(overlaps: Tensor, number: Tensor, assigner: MaxIoUAssigner) -> Tensor:
    """(A,) number of the last object that has its largest overlap here; overwrites overlaps."""
    if assigner.gt_max_assign_all:
        largest = overlaps.amax(dim=1, keepdim=True)
        number = torch.where(largest >= assigner.min_pos_iou, number, 0.0)
        return overlaps.sub_(largest).sign_().mul_(number).add_(number).amax(dim=0)
    largest, at = overlaps.max(dim=1, keepdim=True)
    number = torch.where(largest >= assigner.min_pos_iou, number, 0.0)
    return torch.zeros_like(overlaps).scatter_(1, at, number).amax(dim=0)
