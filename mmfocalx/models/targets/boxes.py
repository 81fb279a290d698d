"""Overlaps and deltas of boxes, in mmdet's arithmetic.

mmdet's functions build small tensors from lists on each call, for which the host waits for a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from torch import Tensor

MIN_AREA = 1e-6
LARGEST_LOG_SCALE = abs(math.log(16 / 1000))


def pairwise_overlaps(boxes: Tensor, priors: Sequence[Tensor], divide_by: str) -> Tensor:
    """Overlaps of every box with every prior.

    Args:
        boxes: (G, 4), xyxy.
        priors: the four columns of the priors, (A,) each, and their areas, (A,).
        divide_by: 'union'; 'box' or 'prior' for the area of one of them.

    Returns:
        (G, A)
    """
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    prior_left, prior_top, prior_right, prior_bottom, prior_area = priors
    width = torch.minimum(right, prior_right)
    edge = torch.maximum(left, prior_left)
    width = width.sub_(edge).clamp_(min=0)
    height = torch.minimum(bottom, prior_bottom)
    torch.maximum(top, prior_top, out=edge)
    overlap = width.mul_(height.sub_(edge).clamp_(min=0))
    area = (right - left) * (bottom - top)
    if divide_by == 'union':
        torch.add(area, prior_area, out=edge)
        return overlap.div_(edge.sub_(overlap).clamp_(min=MIN_AREA))
    return overlap.div_((area if divide_by == 'box' else prior_area).clamp(min=MIN_AREA))


def columns_and_area(boxes: Tensor) -> tuple[Tensor, ...]:
    """The columns of (A, 4) boxes, xyxy, and their areas, (A,) each."""
    left, top, right, bottom = (column.contiguous() for column in boxes.unbind(1))
    return left, top, right, bottom, (right - left) * (bottom - top)


def aligned_overlaps(
    boxes: Tensor, others: Tensor, mode: str = 'iou', eps: float = MIN_AREA
) -> Tensor:
    """Overlap of each box with its counterpart.

    Args:
        boxes: (N, 4), xyxy.
        others: (N, 4), xyxy.
        mode: 'iou' or 'giou'.
        eps: the smallest area that is divided by.

    Returns:
        (N,)
    """
    size, other_size = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
    corner = torch.maximum(boxes[:, :2], others[:, :2])
    overlap = _area((torch.minimum(boxes[:, 2:], others[:, 2:]) - corner).clamp(min=0))
    union = (_area(size) + _area(other_size) - overlap).clamp(min=eps)
    iou = overlap / union
    if mode == 'iou':
        return iou
    hull = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    hull_area = _area(hull.clamp(min=0)).clamp(min=eps)
    return iou - (hull_area - union) / hull_area


def _area(size: Tensor) -> Tensor:
    return size[:, 0] * size[:, 1]


def encode_deltas(priors: Tensor, boxes: Tensor, coder: DeltaXYWHBBoxCoder) -> Tensor:
    """What ``coder.encode`` returns, to the last bit.

    Args:
        priors: (N, 4), xyxy.
        boxes: (N, 4), xyxy, a box for each prior.
        coder: whose means and standard deviations to use.

    Returns:
        (N, 4) shifts of the centre and logarithms of the scales.
    """
    left, top, right, bottom = priors.float().unbind(1)
    box_left, box_top, box_right, box_bottom = boxes.float().unbind(1)
    width, height = right - left, bottom - top
    deltas = torch.stack(
        [
            ((box_left + box_right) * 0.5 - (left + right) * 0.5) / width,
            ((box_top + box_bottom) * 0.5 - (top + bottom) * 0.5) / height,
            ((box_right - box_left) / width).log(),
            ((box_bottom - box_top) / height).log(),
        ],
        dim=1,
    )
    means, stds = (vector(values, deltas) for values in (coder.means, coder.stds))
    return deltas.sub_(means).div_(stds)


def decode_deltas(priors: Tensor, deltas: Tensor, coder: DeltaXYWHBBoxCoder) -> Tensor:
    """What ``coder.decode`` returns for an image without borders.

    Args:
        priors: (N, 4), xyxy.
        deltas: (N, 4), see :func:`encode_deltas`.
        coder: whose means, standard deviations and clamp of the centre to use.

    Returns:
        (N, 4), xyxy.
    """
    means, stds = (vector(values, deltas) for values in (coder.means, coder.stds))
    shift, log_scale = (deltas * stds + means).split(2, dim=1)
    size = priors[:, 2:] - priors[:, :2]
    shift = size * shift
    lowest: float | None = -LARGEST_LOG_SCALE
    if coder.add_ctr_clamp:
        shift = shift.clamp(min=-coder.ctr_clamp, max=coder.ctr_clamp)
        lowest = None
    centre = (priors[:, :2] + priors[:, 2:]) * 0.5 + shift
    half = size * log_scale.clamp(min=lowest, max=LARGEST_LOG_SCALE).exp() * 0.5
    return torch.cat([centre - half, centre + half], dim=1)


def vector(values: Sequence[float], like: Tensor) -> Tensor:
    """The values as a tensor of the type and device of ``like``, made there."""
    return torch.stack([like.new_full((), value) for value in values])
