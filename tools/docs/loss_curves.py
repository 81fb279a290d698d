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

from mmfocalx.losses import DenseClsLoss, EqualizedFocalLossX
from mmfocalx.losses.catalogue import classification_losses

LOGITS = np.linspace(-6.9, 6.9, 417)
"""Where the curves are evaluated: probabilities from 0.001 to 0.999."""
QUALITIES = (1.0, 0.7, 0.4)
BALANCES = (1.0, 0.5, 0.1)
MEAN_QUALITY = 0.45
BCE: Mapping[str, Any] = {'type': 'FocalLossX', 'gamma': 0.0, 'alpha': None}
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    'EqualizedFocalLossX': {'num_classes': 1},
    'SlideLossX': {'auto_iou': MEAN_QUALITY},
}
"""Settings of the losses that have no defaults, or whose state no single entry can show."""
UNLIKELY = -60.0
LINEAR_BELOW = 1e-4
"""Where the scales of loss and gradient turn from logarithmic to linear."""


class Curve(NamedTuple):
    """A loss over :data:`LOGITS`.

    Attributes:
        state: what the loss has seen, '' if it does not matter.
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
    config = {'type': name, **EXAMPLES.get(name, {})}
    if not classification_losses()[name].supports_softmax:
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


def curves(config: Mapping[str, Any]) -> list[Curve]:
    """The curves of a loss for targets of several qualities and for negatives.

    Mining, ignored rows and activation, which are not part of the formula, are left out. Of
    settings per class, those of the first class are shown. A loss that has state is shown in
    several (EqualizedFocalLossX) or at a mean quality of :data:`MEAN_QUALITY` (SlideLossX).

    Args:
        config: of a registered classification loss.
    """
    config = {**config, 'activated': False, 'ohem_ratio': None, 'ignore_index': None}
    if config['type'] == 'SlideLossX' and config.get('auto_iou', 'mean') == 'mean':
        config['auto_iou'] = MEAN_QUALITY
    loss: DenseClsLoss = MODELS.build(config).double().eval()
    channels = _channels(config)
    if not isinstance(loss, EqualizedFocalLossX):
        qualities = QUALITIES if loss.use_sigmoid else (1.0,)
        return [_curve(loss, channels, '', quality) for quality in (*qualities, 0.0)]
    found = []
    for balance in BALANCES:
        loss.pos_grad.fill_(balance)
        loss.neg_grad.fill_(1)
        found += [_curve(loss, channels, f'balance {balance:g}', q) for q in (1.0, 0.0)]
    return found


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
