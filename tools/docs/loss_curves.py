"""Value and gradient of the classification losses over the probability of one entry."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray
from torch import Tensor

from mmfocalx.losses import DenseClsLoss, FocalLossX
from mmfocalx.losses.catalogue import classification_losses

LOGITS = np.linspace(-6.9, 6.9, 417)
"""Where the curves are evaluated: probabilities from 0.001 to 0.999."""
QUALITIES = (1.0, 0.7, 0.4)
BATCH_LOGITS = np.linspace(-5.6, 5.6, 15)
BATCH_QUALITIES = (0, 0, 1.0, 0, 0.4, 0, 0, 0.7, 0, 1.0, 0.4, 0, 0.7, 0, 1.0)
"""Target scores of a batch of one class, for a loss that needs the whole batch."""
BCE: Mapping[str, Any] = {'type': 'FocalLossX', **(FocalLossX.bce_settings or {})}
NO_PART_OF_THE_FORMULA = ('activated', 'ohem_ratio', 'ignore_index')
UNLIKELY = -60.0
LINEAR_BELOW = 1e-4
"""Where the scales of loss and gradient turn from logarithmic to linear."""


class Curve(NamedTuple):
    """A loss over :data:`LOGITS`.

    Attributes:
        state: the name of the loss's state, '' if it has none that shows.
        quality: target score y, 0 for a negative.
        value: the unreduced loss.
        gradient: its derivative with respect to the logit.
    """

    state: str
    quality: float
    value: NDArray[np.float64]
    gradient: NDArray[np.float64]


def examples(name: str) -> dict[str, dict[str, Any]]:
    """Configs that show a registered loss, each with its title."""
    loss = classification_losses()[name]
    config = loss.example_config(1)
    if not loss.supports_softmax:
        return {name: config}
    return {name: config, f'{name}, softmax': {**config, 'use_sigmoid': False}}


def losses_in(config: Any, path: str = 'model') -> Iterator[tuple[str, dict[str, Any]]]:
    """The classification losses of this package in a model's config, with their paths."""
    if isinstance(config, Mapping):
        if config.get('type') in classification_losses():
            yield path, dict(config)
            return
        for key, value in config.items():
            yield from losses_in(value, f'{path}.{key}')
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from losses_in(value, f'{path}.{index}')


def has_curves(config: Mapping[str, Any]) -> bool:
    """Whether the loss of a prediction is a curve over its logit."""
    return not classification_losses()[config['type']].needs_whole_batch


def states_of(config: Mapping[str, Any]) -> list[str]:
    """The names of the states in which a loss is shown."""
    return [*filter(None, _build(config).example_states())]


def curves(config: Mapping[str, Any]) -> list[Curve]:
    """The curves of a loss for positives of several qualities, or in several states, and negatives.

    Mining, ignored rows and activation, which are not part of the formula, are left out. Of
    settings per class, those of the first class are shown.

    Args:
        config: of a registered classification loss that :func:`has_curves`.
    """
    loss = _build({k: v for k, v in config.items() if k not in NO_PART_OF_THE_FORMULA})
    states = loss.example_states()
    qualities = QUALITIES if loss.use_sigmoid and len(states) == 1 else QUALITIES[:1]
    found = []
    for state, buffers in states.items():
        for path, value in buffers.items():
            loss.get_buffer(path).fill_(value)
        found += [_curve(loss, _channels(config), state, q) for q in (*qualities, 0.0)]
    return found


def gradient_in_batch(config: Mapping[str, Any]) -> NDArray[np.float64]:
    """The gradient of a loss by each of :data:`BATCH_LOGITS`, all of one class."""
    pred = torch.tensor(BATCH_LOGITS, requires_grad=True)
    quality = torch.tensor(BATCH_QUALITIES, dtype=pred.dtype)
    loss = _build(config)(pred[:, None], ((quality == 0).long(), quality))
    (gradient,) = torch.autograd.grad(loss, pred)
    return gradient.numpy()


def samples(config: Mapping[str, Any]) -> list[float]:
    """Some of the numbers that the picture of a loss shows, to five digits."""
    if has_curves(config):
        lines = [line for curve in curves(config) for line in (curve.value, curve.gradient)]
    else:
        lines = [gradient_in_batch(config)]
    return [float(f'{number:.5g}') for line in lines for number in line[:: len(line) // 8]]


def _build(config: Mapping[str, Any]) -> DenseClsLoss:
    loss: DenseClsLoss = MODELS.build(dict(config))
    return loss.double().eval()


def _channels(config: Mapping[str, Any]) -> int:
    """C of a loss, by what it sets per class; with softmax at least one more for background."""
    sizes = [len(value) for value in config.values() if isinstance(value, (list, tuple))]
    sizes += [_channels(value) for value in config.values() if isinstance(value, Mapping)]
    classes = config.get('num_classes') or max(sizes, default=1)
    return max(classes, 1 if config.get('use_sigmoid', True) else 2)


def _curve(loss: DenseClsLoss, channels: int, state: str, quality: float) -> Curve:
    """Of the first class; the other channels are certain to be wrong and cost nothing."""
    x = torch.tensor(LOGITS, requires_grad=True)
    pred = torch.cat([x[:, None], x.new_full((len(x), channels - 1), UNLIKELY)], dim=1)
    background = channels
    if not loss.use_sigmoid:
        background = channels - 1
        pred = torch.cat([pred[:, :-1], torch.zeros_like(x)[:, None]], dim=1)
    labels = torch.full((len(x),), 0 if quality else background)
    target: Tensor | tuple[Tensor, Tensor] = labels
    if loss.use_sigmoid:
        target = labels, torch.full_like(x, quality, requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of qualities that are all 1
        value = loss(pred, target, reduction_override='none')
    value = value[:, 0] if value.ndim == 2 else value
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return Curve(state, quality, value.detach().numpy(), gradient.numpy())
