"""The facts of a loss that stand in its docstring and its signature."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.reduction import ReducedLoss

SHARED = {
    name: parameter.default
    for name, parameter in inspect.signature(DenseClsLoss).parameters.items()
}
"""Arguments that all losses share, with their defaults."""
SECTIONS = re.compile(r'\n\n(Args|Attributes|Raises|Example):\n')
SOURCE = re.compile(r'(\w+) et al\. (\d{4})(?: \([^)]*\))?,\s+(https?://\S*\w)')


class Source(NamedTuple):
    """A paper."""

    author: str
    year: str
    url: str


def description(loss: type[ReducedLoss]) -> str:
    """The docstring of a loss without its sections: idea, source and equation."""
    return SECTIONS.split(inspect.getdoc(loss) or '')[0]


def idea(loss: type[ReducedLoss]) -> str:
    """The sentence that the docstring of a loss begins with."""
    return ' '.join(description(loss).split('\n\n')[0].split())


def sources(loss: type[ReducedLoss]) -> list[Source]:
    """The papers that the docstring of a loss names.

    Raises:
        ValueError: if there is none.
    """
    found = [Source(*source) for source in SOURCE.findall(description(loss))]
    if not found:
        raise ValueError(
            f'Expected the docstring of {loss.__name__} to name its source as "Author et al. '
            f'2030, https://...", but it begins with {description(loss)!r}'
        )
    return found


def own_arguments(loss: type[ReducedLoss]) -> dict[str, Any]:
    """The arguments that a loss, and the losses it extends, add to those that all losses share.

    Each has its default, or ``inspect.Parameter.empty``.
    """
    own: dict[str, Any] = {}
    for ancestor in reversed(loss.__mro__):
        if issubclass(ancestor, ReducedLoss) and '__init__' in vars(ancestor):
            for name, parameter in inspect.signature(vars(ancestor)['__init__']).parameters.items():
                if name not in {'self', 'kwargs', *SHARED}:
                    own[name] = parameter.default
    return own
