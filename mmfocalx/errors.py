"""Checks of arguments, and the one wording of their errors; needs the standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import NoReturn


def wrong(
    name: str,
    expected: str,
    got: object,
    error: type[Exception] = ValueError,
    *,
    hint: str = '',
) -> NoReturn:
    """Raise ``error`` for argument ``name``; ``hint`` is a sentence that says more."""
    sentence = f'Expected argument `{name}` to be {expected}, but got {got!r}.'
    raise error(f'{sentence} {hint}'.rstrip())


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
