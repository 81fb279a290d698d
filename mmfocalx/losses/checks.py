"""Checks of constructor arguments: those of the package, and those that need tensors."""

from __future__ import annotations

import difflib
import inspect
import math
import os
from collections.abc import Iterable, Sequence
from numbers import Real

import torch

from mmfocalx.errors import check_bool, check_choice, check_integer, check_number, wrong

__all__ = [
    'check_bool',
    'check_choice',
    'check_integer',
    'check_known',
    'check_number',
    'check_on',
    'check_per_class',
    'describe',
    'switched_on',
    'wrong',
]


def check_per_class(
    name: str, value: object, low: float = -math.inf, high: float = math.inf
) -> float | torch.Tensor:
    """Return a number as it is, and a list or tensor with one per class as a 1-D tensor."""
    if isinstance(value, torch.Tensor):
        if value.ndim > 1 or value.requires_grad:
            expected = 'a number, or a list or a constant 1-D tensor of one number per class'
            grad = ' with requires_grad=True' if value.requires_grad else ''
            wrong(name, expected, describe(value) + grad)
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            wrong(name, 'a number or one number per class', value)
        numbers = [check_number(f'{name}[{i}]', v, low, high) for i, v in enumerate(value)]
        return torch.tensor(numbers, dtype=torch.float32)
    if not isinstance(value, Real):
        wrong(name, 'a number or a list of one number per class', value, TypeError)
    return check_number(name, value, low, high)


def check_known(owner: type, unknown: Iterable[str]) -> None:
    """Raise TypeError for arguments that no constructor of a class takes, and name the nearest."""
    for name in unknown:
        known = {
            known: None
            for base in owner.__mro__
            if issubclass(base, torch.nn.Module)
            for known, parameter in inspect.signature(base).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f'Did you mean {nearest[0]!r}?' if nearest else f'It takes {", ".join(known)}.'
        raise TypeError(f'{owner.__name__} got an unexpected argument {name!r}. {meant}')


def check_on(name: str, tensor: torch.Tensor, device: torch.device | None = None) -> None:
    """Raise ValueError if a tensor is sparse, or on another device than the predictions."""
    if tensor.layout != torch.strided:
        wrong(name, 'a dense tensor', f'one with layout {tensor.layout}')
    if device is not None and tensor.device != device:
        wrong(name, f"on the predictions' device, {device}", f'a tensor on {tensor.device}')


def switched_on(name: str, default: str) -> bool:
    """Whether a variable of the environment is '1'; ValueError if it is neither '0' nor '1'."""
    switch = os.environ.get(name, default)
    if switch not in ('0', '1'):
        wrong(name, "'0' or '1' in the environment", switch)
    return switch == '1'


def describe(value: object) -> str:
    """Type and shape of what was given, for an error."""
    if isinstance(value, torch.Tensor):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    if isinstance(value, (tuple, list)):
        parts = ', '.join(describe(part) for part in value[:3])
        return f'a {type(value).__name__} of {len(value)}: {parts}'
    return type(value).__name__
