"""Which losses there are."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from .base import DenseClsLoss
from .reduction import ReducedLoss


def losses() -> dict[str, type[ReducedLoss]]:
    """Every registered loss of this package's bases, by type name, in the order of registration."""
    entries: dict[str, Any] = MODELS.module_dict
    return {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, type) and issubclass(entry, ReducedLoss)
    }


def classification_losses() -> dict[str, type[DenseClsLoss]]:
    """Every registered classification loss, by its type name, in the order of registration."""
    return {name: loss for name, loss in losses().items() if issubclass(loss, DenseClsLoss)}
