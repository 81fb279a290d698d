"""Which classification losses there are."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from .base import DenseClsLoss


def classification_losses() -> dict[str, type[DenseClsLoss]]:
    """Every registered classification loss, by its type name, in the order of registration."""
    entries: dict[str, Any] = MODELS.module_dict
    return {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, type) and issubclass(entry, DenseClsLoss)
    }
