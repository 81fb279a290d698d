"""Checks of constructor arguments: one wording for every error of this package."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import NoReturn

import torch


def wrong(name: str, expected: str, got: object, error: type[Exception] = ValueError) -> NoReturn:
    """Raise ``error`` for argument ``name``."""
    raise error(f'Expected argument `{name}` to be {expected}, but got {got!r}.')


def check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return ``value`` if it is finite, in [low, high] and in (above, below).

    Raises:
        TypeError: if it is no number.
        ValueError: if it is out of range, infinite or NaN.
    """
    bounds = _bounds(low, high, above, below)
    if isinstance(value, bool) or not isinstance(value, Real):
        wrong(name, f'a number{bounds}', value, TypeError)
    number = float(value)
    if not math.isfinite(number) or not (low <= number <= high and above < number < below):
        wrong(name, f'a finite number{bounds}', value)
    return number


def check_integer(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> int:
    """Return ``value`` if it is an integer with low <= value <= high.

    Raises:
        TypeError: if it is no integer, such as a bool.
        ValueError: if it is out of range.
    """
    expected = f'an integer{_bounds(low, high)}'
    if isinstance(value, bool) or not isinstance(value, Integral):
        wrong(name, expected, value, TypeError)
    if not low <= int(value) <= high:
        wrong(name, expected, value)
    return int(value)


def _bounds(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> str:
    """The bounds of a number in words, such as ' in [0, 1)', ' above 0' or ' of at least 0'."""
    bottom, top = max(low, above), min(high, below)
    if math.isinf(bottom) and math.isinf(top):
        return ''
    if math.isinf(top):
        return f' above {bottom:g}' if above >= low else f' of at least {bottom:g}'
    if math.isinf(bottom):
        return f' below {top:g}' if below <= high else f' of at most {top:g}'
    return f' in {"(" if above >= low else "["}{bottom:g}, {top:g}{")" if below <= high else "]"}'


def check_bool(name: str, value: object) -> bool:
    """Return ``value`` if it is a bool, else raise TypeError."""
    if not isinstance(value, bool):
        wrong(name, 'True or False', value, TypeError)
    return value


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``; 1 is not True, nor 0 False."""
    choices = list(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
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


def describe(value: object) -> str:
    """Type and shape of what was given, for an error."""
    if isinstance(value, torch.Tensor):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    if isinstance(value, (tuple, list)):
        parts = ', '.join(describe(part) for part in value[:3])
        return f'a {type(value).__name__} of {len(value)}: {parts}'
    return type(value).__name__
