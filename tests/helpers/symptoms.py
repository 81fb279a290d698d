"""Small trainings that go wrong in one way each, and what puts them right.

One training takes a second: at each of 200 steps 2,048 new rows, of which 21 are objects of three
classes, a network of one hidden layer, and SGD with momentum. ``python -m helpers.symptoms``, with
``tests`` on the path, prints the figures of docs/training.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import mmfocalx.losses  # noqa: F401  (registers)

ROWS, OBJECTS, CLASSES, FEATURES = 2048, 21, 3, 16
FOCAL = dict(type='FocalLossX')
CROSS_ENTROPY = dict(type='FocalLossX', gamma=0.0, alpha=None)


class Outcome(NamedTuple):
    """What a training led to.

    Attributes:
        first_loss: Of the first step.
        last_loss: Of the last step.
        recall: Share of the objects, of rows not trained on, whose score is above the threshold.
        precision: Share of the scores above the threshold that are those of an object's class.
        average_precision: Mean over the classes.
        object_score: Mean score of the objects.
    """

    first_loss: float
    last_loss: float
    recall: float
    precision: float
    average_precision: float
    object_score: float


def rows(seed: int) -> tuple[Tensor, Tensor]:
    """Features of unit variance, of which those of an object are moved to its class."""
    g = torch.Generator().manual_seed(seed)
    centres = 3 * torch.eye(FEATURES)[:CLASSES]
    labels = torch.full((ROWS,), CLASSES)
    labels[:OBJECTS] = torch.arange(OBJECTS) % CLASSES
    x = torch.randn(ROWS, FEATURES, generator=g)
    x[:OBJECTS] += centres[labels[:OBJECTS]]
    return x, labels


def train(
    loss: dict[str, Any] = FOCAL,
    *,
    lr: float = 0.1,
    prior: float = 0.01,
    steps: int = 200,
    warmup: int = 0,
    max_norm: float | None = None,
    divide_by_objects: bool = True,
    threshold: float = 0.3,
    optimizer: str = 'SGD',
    seed: int = 0,
) -> Outcome:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    nn.init.normal_(net[2].weight, std=0.01)
    nn.init.constant_(net[2].bias, math.log(prior / (1 - prior)))
    criterion = MODELS.build(dict(loss))
    momentum = dict(momentum=0.9) if optimizer == 'SGD' else {}
    steps_of = getattr(torch.optim, optimizer)(net.parameters(), lr=lr, **momentum)
    losses = []
    for step in range(steps):
        steps_of.param_groups[0]['lr'] = lr * min(1.0, (step + 1) / (warmup + 1))
        x, labels = rows(1000 * (seed + 1) + step)
        value = criterion(net(x), labels, avg_factor=OBJECTS if divide_by_objects else None)
        losses.append(value.item())
        steps_of.zero_grad()
        value.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        steps_of.step()
    return judge(net, losses, threshold)


@torch.no_grad()
def judge(net: nn.Module, losses: list[float], threshold: float) -> Outcome:
    x, labels = (torch.cat(parts) for parts in zip(*(rows(n) for n in range(8)), strict=True))
    scores = net(x).sigmoid()
    right = nn.functional.one_hot(labels, CLASSES + 1)[:, :CLASSES].bool()
    found = scores > threshold
    return Outcome(
        losses[0],
        losses[-1],
        (found & right).sum().item() / right.sum().item(),
        (found & right).sum().item() / max(found.sum().item(), 1),
        sum(average_precision(scores[:, c], right[:, c]) for c in range(CLASSES)) / CLASSES,
        scores[right].mean().item(),
    )


def average_precision(scores: Tensor, right: Tensor) -> float:
    """Mean precision at the objects, in the order of the scores; 0 if a score is no number."""
    if scores.isnan().any():
        return 0.0
    ranked = right[scores.argsort(descending=True, stable=True)]
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return precision[ranked].mean().item()


def main() -> None:
    """Print what docs/training.md says of these trainings."""
    torch.set_num_threads(1)
    for name, settings in TRAININGS.items():
        outcome = train(**settings)
        print(name.ljust(28), *(f'{k} {v:.3g}' for k, v in outcome._asdict().items()), sep='  ')


TRAININGS: dict[str, dict[str, Any]] = {
    'as it should be': {},
    'no bias prior': dict(prior=0.5),
    'mean over all rows': dict(divide_by_objects=False),
    'alpha 0.01': dict(loss=dict(FOCAL, alpha=0.01)),
    'alpha 0.99': dict(loss=dict(FOCAL, alpha=0.99)),
    'lr 1': dict(lr=1.0),
    'lr 3': dict(lr=3.0),
    'lr 3, clipped': dict(lr=3.0, max_norm=1.0),
    **{f'focal, lr {lr}': dict(lr=lr) for lr in (0.01, 0.03, 0.3)},
    **{f'cross-entropy, lr {lr}': dict(loss=CROSS_ENTROPY, lr=lr) for lr in (0.01, 0.03, 0.1, 0.3)},
    **{
        f'{name}, AdamW, lr {lr}': dict(loss=loss, lr=lr, optimizer='AdamW')
        for lr in (0.003, 0.01, 0.03, 0.1, 0.3)
        for name, loss in (('focal', FOCAL), ('cross-entropy', CROSS_ENTROPY))
    },
}

if __name__ == '__main__':
    main()
