"""Checks of constructor arguments: those of the package, and those that need tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mmfocalx.errors import check_bool, check_choice, check_integer, check_number, wrong

__all__ = [
    'check_bool',
    'check_choice',
    'check_integer',
    'check_number',
    'check_per_class',
    'describe',
    'wrong',
]


def check_per_class(
    name: str, value: object, low: float = -math.inf, high: float = math.inf
) -> float | torch.Tensor:
    """Return a number as it is, and a sequence of numbers, one per class, as a 1-D tensor."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            wrong(name, 'a number or one number per class', value)
        numbers = [check_number(f'{name}[{i}]', v, low, high) for i, v in enumerate(value)]
        return torch.tensor(numbers, dtype=torch.float32)
    return check_number(name, value, low, high)


def describe(value: object) -> str:
    """Type and shape of what was given, for an error."""
    if isinstance(value, torch.Tensor):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    if isinstance(value, (tuple, list)):
        parts = ', '.join(describe(part) for part in value[:3])
        return f'a {type(value).__name__} of {len(value)}: {parts}'
    return type(value).__name__
