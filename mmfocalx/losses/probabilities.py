"""Predictions that are probabilities, as logits."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import PROBABILITY_EPS

STEEPEST_IN_FLOAT16 = 2.0**-11


def clipped(p: Tensor) -> Tensor:
    """Probabilities in the range of which logits are finite."""
    return p.clamp(PROBABILITY_EPS, 1 - PROBABILITY_EPS)


def to_logits(p: Tensor, dtype: torch.dtype | None, use_sigmoid: bool) -> Tensor:
    """Logits of probabilities; where those are clipped, with the slope at the clip point.

    Args:
        p: probabilities, in float32 or float64.
        dtype: the type in which they, and so their gradient, are given.
        use_sigmoid: whether they are those of a sigmoid; else those of a softmax.
    """
    value = clipped(p.detach())
    moving = value + (p - p.detach())
    x = moving.logit() if use_sigmoid else moving.log()
    if dtype != torch.float16:
        return x
    # The slope at the clip point is more than float16 can hold.
    steep = value.clamp(STEEPEST_IN_FLOAT16, 1 - STEEPEST_IN_FLOAT16)
    slope = steep * (1 - steep) if use_sigmoid else steep
    return x.detach() + (p - p.detach()) / slope
