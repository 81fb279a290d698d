"""Random batches for the losses of masks and of boxes."""

from __future__ import annotations

from typing import Any

import torch


def masks(*shape: int, seed: int = 0, dtype: Any = torch.float64) -> tuple[Any, Any]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=g, dtype=torch.float64) * 2
    target = (torch.rand(shape, generator=g, dtype=torch.float64) > 0.6).double()
    target[:, 0] = torch.rand(target[:, 0].shape, generator=g, dtype=torch.float64)
    return logits.to(dtype), target.to(dtype)


def boxes(n: int, seed: int = 0, dtype: Any = torch.float64) -> tuple[Any, Any]:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g, dtype=torch.float64) * 20
    size = torch.rand(n, 2, generator=g, dtype=torch.float64) * 20 + 10
    target = torch.cat([corner, corner + size], 1)
    moved = target + torch.rand(n, 4, generator=g, dtype=torch.float64) * 8 - 4
    return moved.to(dtype), target.to(dtype)
