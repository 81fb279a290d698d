"""FoveaBox's targets of a batch at once, without a read by the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.utils import InstanceList
from torch import Tensor

from .max_iou import pieces

LEAST, MOST = 1 / 16, 16.0


def fovea_numbers(
    objects: InstanceList,
    sizes: Sequence[Sequence[int]],
    *,
    strides: Sequence[float],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float,
) -> Tensor:
    """Which object each location belongs to, as in mmdet's ``FoveaHead``.

    A location lies in the middle part of the objects of its level's scales, and belongs to the
    smallest of them. Of equally large objects the later one counts; mmdet leaves their order to
    ``torch.sort``, which may change it where there are more than 16.

    Args:
        objects: per image, ``bboxes``, (G, 4) xyxy.
        sizes: per level, height and width of its feature map.
        strides: per level, pixels between neighbours.
        scale_ranges: per level, the least and the largest square root of an object's area.
        sigma: share of an object's width and height that its middle part has.

    Returns:
        (B, P) numbers of the objects, which count from 1 over all images; 0 for background.
    """
    boxes = torch.cat([image.bboxes for image in objects])
    counts = [len(image.bboxes) for image in objects]
    if not len(boxes):
        return boxes.new_zeros(len(counts), sum(h * w for h, w in sizes), dtype=torch.long)
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    order = torch.argsort(-scale, stable=True)
    rank = torch.argsort(order).to(boxes.dtype)[:, None] + 1
    ranks = []
    for (height, width), stride, (low, high) in zip(sizes, strides, scale_ranges, strict=True):
        of_level = ((scale >= low) & (scale <= high))[:, None]
        scaled = boxes / stride
        rows = torch.where(_middle(scaled[:, 1::2], height, sigma) & of_level, rank, 0)
        columns = torch.where(_middle(scaled[:, 0::2], width, sigma), rank, 0)
        ranks.append(
            torch.stack(
                [
                    _largest_of_both(*of_image)
                    for of_image in zip(rows.split(counts), columns.split(counts), strict=True)
                ]
            )
        )
    numbers = torch.cat([order.new_zeros(1), order + 1])
    return numbers[torch.cat(ranks, dim=1).long()]


def _middle(ends: Tensor, length: int, sigma: float) -> Tensor:
    """(G, length) whether a row or column lies in the middle part of objects from end to end.

    Args:
        ends: (G, 2), in cells.
        length: number of rows or columns.
        sigma: share of the middle part.
    """
    start, half = ends[:, :1], 0.5 * (ends[:, 1:] - ends[:, :1])
    first = torch.ceil(start + (1 - sigma) * half - 0.5).clamp(0, length - 1)
    last = torch.floor(start + (1 + sigma) * half - 0.5).clamp(0, length - 1)
    cell = torch.arange(length, dtype=ends.dtype, device=ends.device)
    return (cell >= first) & (cell <= last)


def _largest_of_both(rows: Tensor, columns: Tensor) -> Tensor:
    """(H * W,) largest of what is at both the row and the column, (G, H) and (G, W), else 0."""
    largest = rows.new_zeros(rows.shape[1], columns.shape[1])
    places = largest.numel()
    for of_rows, of_columns in zip(pieces(rows, places), pieces(columns, places), strict=True):
        both = torch.minimum(of_rows[:, :, None], of_columns[:, None])
        largest = torch.maximum(largest, both.amax(dim=0)) if len(both) else largest
    return largest.flatten()


def encode_foveas(priors: Tensor, boxes: Tensor) -> Tensor:
    """Logarithms of the distances from locations to the sides of boxes, as FoveaBox learns them.

    Args:
        priors: (R, 3) x, y and the length that stands for 1.
        boxes: (R, 4), xyxy.

    Returns:
        (R, 4)
    """
    x, y, length = priors.unbind(1)
    left, top, right, bottom = boxes.unbind(1)
    distances = torch.stack((x - left, y - top, right - x, bottom - y), dim=1) / length[:, None]
    return distances.clamp(min=LEAST, max=MOST).log()


def decode_foveas(priors: Tensor, pred: Tensor) -> Tensor:
    """(R, 4) boxes, xyxy, of (R, 4) predictions; see :func:`encode_foveas`."""
    x, y, length = priors.unbind(1)
    left, top, right, bottom = (pred.exp() * length[:, None]).unbind(1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=1)
