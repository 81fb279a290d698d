"""The page of the gallery: each loss with its formula, its source and its picture."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from loss_curves import (
    BALANCES,
    LINEAR_BELOW,
    MEAN_QUALITY,
    QUALITIES,
    examples,
)
from mmfocalx.losses import DenseClsLoss, functional
from mmfocalx.losses.catalogue import classification_losses

OVERVIEW = 'overview.png'
HIDDEN = ('type', 'num_classes')
INTRODUCTION = """# The losses, formula by formula

Written, with the pictures, by `python tools/analysis/plot_losses.py --out DIR`; with
`--config CONFIG` it draws the losses of a config, as they are set there.

{notation}
It is also written q where it is the quality of a positive.

In the pictures y is {qualities} for positives and 0 for negatives. Dashed is binary cross-entropy
(BCE) for the same y. All pictures have the same axes: p on the scale of its logit, loss and
gradient on scales that are logarithmic above {linear} and linear around 0. The gradient is that
with respect to the logit. It crosses 0 at the probability that the loss asks for.

![Gradients of all losses]({folder}/{overview})

SlideLossX is shown around BCE at a mean quality of {mean}. EqualizedFocalLossX is shown for classes
whose positives have had {balances} times the gradient of their negatives, in the overview for the
last of them.
"""


def loss_page(folder: str) -> str:
    """The page as Markdown, with the pictures in ``folder``."""
    notation = (inspect.getdoc(functional) or '').split('\n\n')[1].split('.\n')[0] + '.'
    parts = [
        INTRODUCTION.format(
            notation=markdown(notation),
            qualities=_listed(QUALITIES),
            linear=f'{LINEAR_BELOW:.4f}',
            mean=MEAN_QUALITY,
            balances=_listed(BALANCES),
            folder=folder,
            overview=OVERVIEW,
        )
    ]
    for name, loss in classification_losses().items():
        parts.append(f'## {name}\n')
        parts += [f'{markdown(text)}\n' for text in formulas(loss)]
        for title, config in examples(name).items():
            parts.append(f'`{settings_of(config)}`\n\n![{title}]({folder}/{file_name(title)})\n')
    return '\n'.join(parts)


def file_name(title: str) -> str:
    """The file of the picture with a title."""
    return title.replace(', ', '-') + '.png'


def settings_of(config: Mapping[str, Any]) -> str:
    """The settings of a loss: what its config sets, and the defaults of its own arguments."""
    shown = {**_own_defaults(classification_losses()[config['type']]), **config}
    return ', '.join(f'{name}={value!r}' for name, value in shown.items() if name not in HIDDEN)


def _own_defaults(loss: type[DenseClsLoss]) -> dict[str, Any]:
    """The arguments that a loss and the losses that it extends add to those of the base."""
    defaults: dict[str, Any] = {}
    for ancestor in loss.__mro__[: loss.__mro__.index(DenseClsLoss)]:
        for name, parameter in inspect.signature(vars(ancestor)['__init__']).parameters.items():
            if parameter.default is not parameter.empty:
                defaults.setdefault(name, parameter.default)
    return defaults


def formulas(loss: type[DenseClsLoss]) -> list[str]:
    """Docstrings, without arguments, of the formulas that a loss computes; or its own."""
    public = [function for _, function in inspect.getmembers(functional, inspect.isfunction)]
    code = inspect.unwrap(loss.elementwise)
    named = [code.__globals__.get(name) for name in code.__code__.co_names]
    used = [one for one in named if one in public]
    docs = [inspect.getdoc(one) for one in used] or [inspect.getdoc(loss)]
    return [(doc or '').split('\n\nArgs:')[0] for doc in docs]


def markdown(text: str) -> str:
    """A docstring in reStructuredText as Markdown of GitHub."""

    def displayed(match: re.Match[str]) -> str:
        lines = '\n'.join(line.strip() for line in match[1].strip().splitlines())
        return f'```math\n{lines}\n```\n\n'

    text = re.sub(r':math:`([^`]+)`', r'$`\1`$', text)
    text = re.sub(r':\w+:`~?([^`]+)`|``([^`]+)``', r'`\1\2`', text)
    return re.sub(
        r'^\.\. math::(.*(?:\n(?: +.*)?)*)', displayed, f'{text}\n', flags=re.MULTILINE
    ).strip()


def _listed(numbers: tuple[float, ...]) -> str:
    *most, last = (f'{number:g}' for number in numbers)
    return f'{", ".join(most)} or {last}'
