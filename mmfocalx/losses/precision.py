"""The types of arithmetic and of gradients."""

from __future__ import annotations

import torch
from torch import Tensor


def computed_in(x: Tensor) -> torch.dtype:
    """The type of the arithmetic on predictions: float32 for half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def gradient_type(x: Tensor) -> torch.dtype:
    """float32 for float16, which could not hold it before a loss scaler's factor is applied."""
    return torch.float32 if x.dtype == torch.float16 else x.dtype
