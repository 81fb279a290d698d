"""The page of the gallery: each loss with its idea, source, equation and picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from facts import SHARED, description, own_arguments
from loss_curves import BATCH_LOGITS, LINEAR_BELOW, QUALITIES, examples, has_curves, states_of
from mmfocalx.losses.catalogue import classification_losses

OVERVIEW = 'overview.png'
INTRODUCTION = r"""# The losses, formula by formula

`make docs` writes this page and its pictures from the classes.
`python tools/analysis/plot_losses.py --config CONFIG --out DIR` draws the losses of a config, as
they are set there.

Throughout, $`x`$ is the logit, $`p = \sigma(x)`$ the probability and $`y`$ the target score. The
quality of a positive, which is its score, is also written $`q`$. $`p_t`$ is p of positives and
1 - p of negatives, $`\alpha_t`$ is α of positives and 1 - α of negatives, and

```math
\mathrm{{BCE}}(x, y) = -y \log p - (1-y) \log(1-p)
```

In the pictures y is {qualities} for positives and 0 for negatives. Dashed is binary cross-entropy
(BCE) for the same y. All pictures have the same axes: p on the scale of its logit, loss and
gradient on scales that are logarithmic above {linear} and linear around 0. The gradient is that
with respect to the logit. It crosses 0 at the probability that the loss asks for. A loss with a
state is shown in the states that its picture names; the overview shows the last of them.
{batches}
![Gradients of all losses]({folder}/{overview})
"""
BATCHES = """
A loss that needs the whole batch is no curve over the logit of one prediction. Its picture is the
gradient of each of the {predictions} predictions of a batch.
"""


def loss_page(folder: str) -> str:
    """The page as Markdown, with the pictures in ``folder``."""
    losses = classification_losses()
    shown = {name: examples(name) for name in losses}
    curved = all(has_curves(config) for one in shown.values() for config in one.values())
    parts = [
        INTRODUCTION.format(
            qualities=_listed([f'{quality:g}' for quality in QUALITIES], 'or'),
            linear=f'{LINEAR_BELOW:.4f}',
            batches='' if curved else BATCHES.format(predictions=len(BATCH_LOGITS)),
            folder=folder,
            overview=OVERVIEW,
        )
    ]
    for name, loss in losses.items():
        parts += [f'## {name}\n', f'{markdown(description(loss))}\n']
        for title, config in shown[name].items():
            states = _listed(states_of(config), 'and')
            where = f', shown at {states}' if states else ''
            parts.append(f'`{settings_of(config)}`{where}\n')
            parts.append(f'![{title}]({folder}/{file_name(title)})\n')
    return '\n'.join(parts)


def file_name(title: str) -> str:
    """The file of the picture with a title."""
    return title.replace(', ', '-') + '.png'


def settings_of(config: Mapping[str, Any]) -> str:
    """The settings of a loss: its own arguments, and those of all losses that are no defaults."""
    own = own_arguments(classification_losses()[config['type']])
    shared = {k: v for k, v in config.items() if k in SHARED and v != SHARED[k]}
    shown = {**own, **{k: v for k, v in config.items() if k in own}, **shared}
    return ', '.join(f'{name}={value!r}' for name, value in shown.items())


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


def _listed(words: Sequence[str], joined_by: str) -> str:
    return f' {joined_by} '.join(filter(None, [', '.join(words[:-1]), *words[-1:]]))
