"""Checks of constructor arguments: one wording for every error of this package."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NoReturn

import torch


def wrong(name: str, expected: str, got: object, error: type[Exception] = ValueError) -> NoReturn:
    """Raise ``error`` for argument ``name``."""
    raise error(f'Expected argument `{name}` to be {expected}, but got {got!r}.')


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` if it is a finite number in [low, high].

    Raises:
        TypeError: if it is no number.
        ValueError: if it is out of range, infinite or NaN.
    """
    bounds = f' in [{low:g}, {high:g}]' if (low, high) != (-math.inf, math.inf) else ''
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        wrong(name, f'a number{bounds}', value, TypeError)
    if not math.isfinite(value) or not low <= value <= high:
        wrong(name, f'a finite number{bounds}', value)
    return value


def check_bool(name: str, value: object) -> bool:
    """Return ``value`` if it is a bool, else raise TypeError."""
    if not isinstance(value, bool):
        wrong(name, 'True or False', value, TypeError)
    return value


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    choices = list(choices)
    if not any(value is choice or value == choice for choice in choices):
        wrong(name, f'one of {choices}', value)


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
