"""The ``--search`` of a sweep: what is varied, and over which values."""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from optuna import Trial

from mmfocalx.errors import wrong

Number = TypeVar('Number', int, float)
EXPECTED = (
    'KEY=float:LOW:HIGH, KEY=float:LOW:HIGH:STEP, KEY=log:LOW:HIGH, KEY=int:LOW:HIGH, '
    'KEY=int:LOW:HIGH:STEP or KEY=choice:A,B,...'
)
Kind = Literal['float', 'log', 'int', 'choice']
_PARTS = {'float': (2, 3), 'log': (2, 2), 'int': (2, 3)}
_WORDS = {'true': True, 'false': False}
_BETWEEN_COMMAS = re.compile(r'(?:\([^)]*\)|\[[^\]]*\]|\{[^}]*\}|[^,])+')


@dataclass(frozen=True)
class Parameter:
    """A setting of the config, and the values that it may take.

    Attributes:
        name: Its key, or a short name, as it was given.
        kind: How values are drawn.
        low: Smallest value of a number.
        high: Largest value of a number.
        step: Distance between values; None where there is none.
        choices: The values as text, where they are chosen from.
    """

    name: str
    kind: Kind
    low: float = math.nan
    high: float = math.nan
    step: float | None = None
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == 'choice':
            return f'choice:{",".join(self.choices)}'
        numbers = [self.low, self.high, *([] if self.step is None else [self.step])]
        return ':'.join([self.kind, *(f'{number:g}' for number in numbers)])

    def suggest(self, trial: Trial) -> Any:
        """The value of a trial, as it is stored: a number, or the text of a choice."""
        if self.kind == 'choice':
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == 'int':
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.name, low, high, step=step)
        log = self.kind == 'log'
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=log)

    def setting(self, value: Any) -> Any:
        """A stored value as it stands in a config."""
        return parsed(value) if self.kind == 'choice' else value

    def stored(self, setting: Any) -> Any:
        """The stored value of a setting; None if it is outside the search space."""
        if self.kind == 'choice':
            same = [c for c in self.choices if _same(parsed(c), setting)]
            return same[0] if same else None
        if isinstance(setting, bool) or not isinstance(setting, (int, float)):
            return None
        if not self.low <= setting <= self.high:
            return None
        if self.step is not None and not _whole((setting - self.low) / self.step):
            return None
        return int(setting) if self.kind == 'int' else float(setting)

    def edge(self, value: Any) -> str:
        """Which end of the range a stored value is next to: 'low', 'high' or ''.

        Next to an end is within a twentieth of the range, on its own scale; in steps it is the
        first and the last value. None, of a trial that does not take the parameter, is next to
        none.
        """
        if self.kind == 'choice' or value is None:
            return ''
        scale = math.log if self.kind == 'log' else float
        low, high = scale(self.low), scale(self._last)
        margin = 0.0 if self.step else 0.05 * (high - low)
        place = scale(value)
        if place <= low + margin + 1e-12:
            return 'low'
        return 'high' if place >= high - margin - 1e-12 else ''

    @property
    def _last(self) -> Any:
        """The largest value that can be drawn."""
        return self.high if self.step is None else self.grid()[-1]

    def grid(self) -> list[Any]:
        """All stored values.

        Raises:
            ValueError: If there is no end to them.
        """
        if self.kind == 'choice':
            return list(self.choices)
        if self.kind == 'int':
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.step is None:
            hint = f'Give float:LOW:HIGH:STEP or choice:{self.low:g},{self.high:g},...'
            got = f'{self.name}={self}'
            wrong('--search', 'a finite number of values, for a grid', got, hint=hint)
        number = math.floor((self.high - self.low) / self.step + 1e-9)
        return [round(self.low + k * self.step, 12) for k in range(number + 1)]


def parse(text: str) -> Parameter:
    """A parameter from the command line.

    Args:
        text: Such as ``'gamma=float:0.5:4'``.

    Raises:
        ValueError: If it cannot be read; the message says what is expected.
    """
    name, _, values = text.partition('=')
    kind, _, rest = values.partition(':')
    if not name or not rest or kind not in (*_PARTS, 'choice'):
        wrong('--search', EXPECTED, text)
    if kind == 'choice':
        return Parameter(name, 'choice', choices=_choices(text, rest))
    parts = rest.split(':')
    low, high, *step = _numbers(text, parts, int if kind == 'int' else float, _PARTS[kind])
    if not low < high:
        wrong('--search', 'a range with LOW below HIGH', text)
    if kind == 'log' and low <= 0:
        wrong('--search', 'a logarithmic range with LOW above 0', text)
    if step and not 0 < step[0] <= high - low:
        wrong('--search', 'a range with STEP above 0 and at most HIGH - LOW', text)
    return Parameter(name, cast(Kind, kind), low, high, step[0] if step else None)


def _numbers(
    text: str, parts: list[str], read: Callable[[str], Number], sizes: tuple[int, int]
) -> list[Number]:
    if len(parts) not in sizes:
        wrong('--search', EXPECTED, text)
    try:
        numbers = [read(part) for part in parts]
    except ValueError as error:
        wrong('--search', EXPECTED, text, hint=f'{str(error).capitalize()}.')
    if not all(map(math.isfinite, numbers)):
        wrong('--search', 'a range of finite numbers', text)
    return numbers


def _choices(text: str, rest: str) -> tuple[str, ...]:
    choices = tuple(part.strip() for part in _BETWEEN_COMMAS.findall(rest))
    values = [parsed(choice) for choice in choices]
    if len(choices) < 2 or any(_same(*pair) for pair in itertools.combinations(values, 2)):
        wrong('--search', 'a choice of two different values or more', text)
    return choices


def parsed(text: str) -> Any:
    """The value of a choice, as ``--cfg-options`` reads it: a literal, or the text itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _same(one: Any, other: Any) -> bool:
    """Whether settings are equal; True is not 1, but 1 is 1.0, and a tuple is its list."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(isinstance(one, bool) == isinstance(other, bool) and one == other)


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9


def product(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    """Every point of the grid, the last parameter changing fastest."""
    for values in itertools.product(*(parameter.grid() for parameter in parameters)):
        yield {p.name: value for p, value in zip(parameters, values, strict=True)}
