"""``VarifocalLossX(detach=True)`` is the varifocal loss of RT-DETR, D-FINE and DEIM.

Their code, in PyTorch: a matched query weighs by its IoU, every other entry by
``alpha * sigmoid(x).detach() ** gamma``; binary cross-entropy with the IoU as the target; a mean
over the queries of each image, times their number, summed and divided by the number of boxes.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmfocalx.losses import VarifocalLossX

IMAGES, QUERIES, CLASSES, BOXES = 2, 5, 3, 4.0
SETTINGS = [{}, {'alpha': 0.2, 'gamma': 1.5}]
LABELS = torch.tensor([[0, 3, 2, 3, 3], [3, 1, 3, 3, 1]])  # CLASSES where no box is matched


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(x: float, y: float) -> float:
    return -y * math.log(sigmoid(x)) - (1 - y) * math.log(sigmoid(-x))


def entry(x: float, frozen: float, iou: float | None, alpha: float, gamma: float) -> float:
    """The loss of a logit; ``iou`` is None where its class is not matched."""
    if iou is not None:
        return iou * cross_entropy(x, iou)
    weight: float = alpha * sigmoid(frozen) ** gamma
    return weight * cross_entropy(x, 0.0)


def by_hand(logits: Any, frozen: Any, ious: Any, alpha: float = 0.75, gamma: float = 2.0) -> float:
    total = 0.0
    for image in range(IMAGES):
        per_query = [
            sum(
                entry(
                    logits[image][query][c],
                    frozen[image][query][c],
                    ious[image][query] if LABELS[image, query] == c else None,
                    alpha,
                    gamma,
                )
                for c in range(CLASSES)
            )
            for query in range(QUERIES)
        ]
        total += sum(per_query) / QUERIES
    return total * QUERIES / BOXES


@pytest.fixture
def logits() -> Tensor:
    g = torch.Generator().manual_seed(0)
    return 3 * torch.randn(IMAGES, QUERIES, CLASSES, generator=g, dtype=torch.float64)


@pytest.fixture
def ious() -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.rand(IMAGES, QUERIES, generator=g, dtype=torch.float64)


def ours(logits: Tensor, ious: Tensor, **settings: Any) -> Tensor:
    loss = VarifocalLossX(detach=True, **settings)
    value: Tensor = loss(logits, (LABELS, ious), reduction_override='none').sum() / BOXES
    return value


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_value_and_gradient(settings: dict[str, Any], logits: Tensor, ious: Tensor) -> None:
    frozen, qualities = logits.tolist(), ious.tolist()
    x = logits.requires_grad_()
    value = ours(x, ious, **settings)
    expected = by_hand(frozen, frozen, qualities, **settings)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(value, x)
    step = 1e-5
    for index in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        moved = [logits.detach().clone() for _ in range(2)]
        for sign, each in zip((1, -1), moved, strict=True):
            each[tuple(index)] += sign * step
        up, down = (by_hand(e.tolist(), frozen, qualities, **settings) for e in moved)
        assert gradient[tuple(index)].item() == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_second_derivative(settings: dict[str, Any], logits: Tensor, ious: Tensor) -> None:
    """Of weighted binary cross-entropy: the weight times p (1 - p)."""
    alpha, gamma = settings.get('alpha', 0.75), settings.get('gamma', 2.0)
    x = logits.requires_grad_()
    (gradient,) = torch.autograd.grad(ours(x, ious, **settings), x, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), x)
    p = logits.detach().sigmoid()
    weight = alpha * p**gamma
    for image, query in (LABELS < CLASSES).nonzero().tolist():
        weight[image, query, LABELS[image, query]] = ious[image, query]
    torch.testing.assert_close(curvature, weight * p * (1 - p) / BOXES)


def test_the_gradient_of_negatives_alone_differs(logits: Tensor, ious: Tensor) -> None:
    gradients = []
    for detach in (True, False):
        x = logits.clone().requires_grad_()
        value = VarifocalLossX(detach=detach, reduction='sum')(x, (LABELS, ious))
        gradients.append(torch.autograd.grad(value, x)[0])
    matched = torch.nn.functional.one_hot(LABELS, CLASSES + 1)[..., :CLASSES].bool()
    assert torch.equal(gradients[0][matched], gradients[1][matched])
    assert (gradients[0] < gradients[1])[~matched].all()


def test_a_match_without_overlap_is_a_negative(logits: Tensor) -> None:
    """In their code it has no loss; the heads here hand over a quality of 1e-6 or more."""
    nothing = torch.zeros(IMAGES, QUERIES, dtype=torch.float64)
    background = torch.full_like(LABELS, CLASSES)
    loss = VarifocalLossX(detach=True)
    assert loss(logits, (LABELS, nothing)) == loss(logits, background)
    smallest = torch.full_like(nothing, 1e-6)
    unmatched = by_hand(logits.tolist(), logits.tolist(), smallest.tolist())
    assert ours(logits, smallest).item() == pytest.approx(unmatched, rel=1e-9)
