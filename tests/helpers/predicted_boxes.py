"""The boxes that a head predicts, decoded place by place in plain arithmetic."""

from __future__ import annotations

import math

import torch

from helpers.small_heads import FOVEA, METAS, STRIDES


def overlap(a, b, kind):
    """IoU or (GIoU + 1) / 2 of two boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    iou = width * height / union
    if kind == 'iou':
        return iou
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return (iou - (hull - union) / hull + 1) / 2


def fcos_box(head, pred, level, row, column):
    left, top, right, bottom = pred
    x, y = (column + 0.5) * STRIDES[level], (row + 0.5) * STRIDES[level]
    return x - left, y - top, x + right, y + bottom


def fovea_box(head, pred, level, row, column):
    lengths = [math.exp(value) * FOVEA['base_edge_list'][level] for value in pred]
    return fcos_box(head, lengths, level, row, column)


def reppoints_box(head, pred, level, row, column):
    """From the mean of the points, their standard deviation times e^m to each side."""
    sides = []
    for values, cell, m in zip(
        (pred[1::2], pred[0::2]), (column, row), head.moment_transfer.tolist(), strict=True
    ):
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        reach = math.sqrt(variance) * math.exp(m)
        sides.append([(cell + mean + sign * reach) * STRIDES[level] for sign in (-1, 1)])
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


OF_A_LOCATION = {
    'FCOSHeadX': fcos_box,
    'FoveaHeadX': fovea_box,
    'RepPointsHeadX': reppoints_box,
}


def rows_by_hand(kind, head, features):
    """For each row that the loss sees: the predicted box and the image it lies in."""
    with torch.no_grad():
        outs = head(features)
    preds = outs[2] if kind == 'RepPointsHeadX' else outs[1]
    rows = []
    if kind in OF_A_LOCATION:
        for image in range(len(METAS)):
            for number, level in enumerate(preds):
                for i in range(level.shape[2]):
                    for j in range(level.shape[3]):
                        pred = level[image, :, i, j].tolist()
                        rows.append((image, OF_A_LOCATION[kind](head, pred, number, i, j)))
        return rows
    anchors = head.prior_generator.grid_priors([f.shape[-2:] for f in preds], device='cpu')
    for image in range(len(METAS)):
        for level, priors in zip(preds, anchors, strict=True):
            flat = level[image].permute(1, 2, 0).reshape(-1, 4).tolist()
            for (dx, dy, dw, dh), (x0, y0, x1, y1) in zip(flat, priors.tolist(), strict=True):
                w, h = x1 - x0, y1 - y0
                x, y = (x0 + x1) / 2 + dx * 0.1 * w, (y0 + y1) / 2 + dy * 0.1 * h
                w, h = w * math.exp(dw * 0.2), h * math.exp(dh * 0.2)
                rows.append((image, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    return rows
