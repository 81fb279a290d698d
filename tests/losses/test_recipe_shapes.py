"""The shapes of the usual recipes, each against a scalar loop over Python floats (float64)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from mmfocalx.losses import FocalLossX

GAMMA, ALPHA = 2.0, 0.25
B, N, C = 2, 6, 3


def random_logits(*shape: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=g, dtype=torch.float64) * 3


def random_labels(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(1))


def binary_focal(x: float, target: int, alpha: float | None = ALPHA) -> float:
    """Eq. 5 of the paper, for one logit whose target is 0 or 1."""
    p = 1 / (1 + math.exp(-x))
    p_t = p if target == 1 else 1 - p
    alpha_t = 1.0 if alpha is None else (alpha if target == 1 else 1 - alpha)
    return -alpha_t * (1 - p_t) ** GAMMA * math.log(p_t)


def softmax_of(row: Sequence[float]) -> list[float]:
    powers = [math.exp(x) for x in row]
    return [power / math.fsum(powers) for power in powers]


def multi_class_focal(p: Sequence[float], label: int, alpha: Sequence[float]) -> float:
    return -alpha[label] * (1 - p[label]) ** GAMMA * math.log(p[label])


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def difference(loss: FocalLossX, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The gradient by central differences."""
    step, flat = 1e-5, pred.detach().reshape(-1)
    slopes = []
    for i in range(len(flat)):
        sides = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            sides.append(loss(moved.reshape(pred.shape), target).item())
        slopes.append((sides[0] - sides[1]) / (2 * step))
    return torch.tensor(slopes, dtype=pred.dtype).reshape(pred.shape)


def check(loss: FocalLossX, pred: torch.Tensor, target: torch.Tensor, expected: float) -> None:
    pred = pred.clone().requires_grad_()
    value = loss(pred, target)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    torch.testing.assert_close(pred.grad, difference(loss, pred, target), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('dtype', [torch.float64, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize('shape', [(N,), (N, 1)])
@pytest.mark.parametrize('alpha', [ALPHA, None])
def test_binary_logits_with_targets_of_0_and_1(shape, dtype, alpha):
    logits, targets = random_logits(*shape), random_labels(2, *shape)
    assert {*targets.flatten().tolist()} == {0, 1}
    rows = zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)
    expected = [binary_focal(x, y, alpha) for x, y in rows]
    loss = FocalLossX(use_sigmoid=True, gamma=GAMMA, alpha=alpha)
    check(loss, logits, targets.to(dtype), mean(expected))
    entries = loss(logits, targets.to(dtype), reduction_override='none')
    assert entries.shape == shape
    assert entries.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_integers_of_one_dimension_less_are_labels_and_0_is_the_class():
    logits, labels = random_logits(N, 1), random_labels(2, N)
    expected = mean(
        [binary_focal(x, 1 - label) for x, label in zip(logits[:, 0].tolist(), labels, strict=True)]
    )
    check(FocalLossX(use_sigmoid=True, gamma=GAMMA, alpha=ALPHA), logits, labels, expected)


def test_floats_of_one_dimension_less_are_refused():
    """So that the targets of a tutorial never count as labels in silence."""
    with pytest.raises(TypeError, match=r'`target` to be integer labels for shape \(6,\)'):
        FocalLossX()(random_logits(N, 1), random_labels(2, N).double())


@pytest.mark.parametrize('one_hot', [False, True])
def test_batches_of_softmax_rows(one_hot):
    logits, labels = random_logits(B, N, C), random_labels(C, B, N)
    alpha = [0.125, 0.75, 2.5]  # class by class, from class 0 on
    expected = mean(
        [
            multi_class_focal(softmax_of(logits[b, i].tolist()), int(labels[b, i]), alpha)
            for b in range(B)
            for i in range(N)
        ]
    )
    loss = FocalLossX(use_sigmoid=False, gamma=GAMMA, alpha=alpha)
    target = torch.nn.functional.one_hot(labels, C) if one_hot else labels
    check(loss, logits, target, expected)
    assert loss(logits, target, reduction_override='none').shape == (B, N)


@pytest.mark.parametrize('one_hot', [False, True])
@pytest.mark.parametrize('alpha', [ALPHA, [0.125, 0.875, 0.375]])
def test_batches_of_sigmoid_rows(one_hot, alpha):
    logits, labels = random_logits(B, N, C), random_labels(C, B, N)
    per_class = alpha if isinstance(alpha, list) else [alpha] * C
    expected = mean(
        [
            binary_focal(logits[b, i, c].item(), int(labels[b, i] == c), per_class[c])
            for b in range(B)
            for i in range(N)
            for c in range(C)
        ]
    )
    target = torch.nn.functional.one_hot(labels, C) if one_hot else labels
    check(FocalLossX(use_sigmoid=True, gamma=GAMMA, alpha=alpha), logits, target, expected)


def test_classes_in_the_second_dimension_move_to_the_last():
    logits, labels = random_logits(B, C, 2, N), random_labels(C, B, 2, N)
    places = [(b, i, j) for b in range(B) for i in range(2) for j in range(N)]
    rows = [logits[b, :, i, j].tolist() for b, i, j in places]
    expected = mean(
        [
            multi_class_focal(softmax_of(row), int(labels[place]), [1.0] * C)
            for row, place in zip(rows, places, strict=True)
        ]
    )
    loss = FocalLossX(use_sigmoid=False, gamma=GAMMA, alpha=None)
    check(loss, logits.movedim(1, -1), labels, expected)
    with pytest.raises(ValueError, match=r'`target` to be labels of shape'):
        loss(logits, labels)


def test_binary_probabilities():
    p, targets = random_logits(N).sigmoid(), random_labels(2, N)
    expected = mean(
        [
            binary_focal(math.log(q / (1 - q)), y)
            for q, y in zip(p.tolist(), targets.tolist(), strict=True)
        ]
    )
    loss = FocalLossX(use_sigmoid=True, gamma=GAMMA, alpha=ALPHA, activated=True)
    check(loss, p, targets, expected)


@pytest.mark.parametrize('one_hot', [False, True])
def test_softmax_probabilities(one_hot):
    p, labels = random_logits(B, N, C).softmax(dim=-1), random_labels(C, B, N)
    alpha = [0.125, 0.75, 2.5]
    expected = mean(
        [
            multi_class_focal(p[b, i].tolist(), int(labels[b, i]), alpha)
            for b in range(B)
            for i in range(N)
        ]
    )
    target = torch.nn.functional.one_hot(labels, C) if one_hot else labels
    loss = FocalLossX(use_sigmoid=False, gamma=GAMMA, alpha=alpha, activated=True)
    assert loss(p, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('background', [0, C - 1])
def test_the_list_of_alphas_follows_the_labels(background):
    """Class first: its own place in the list, wherever the background is."""
    a = 0.25
    alpha = [a if c == background else 1 - a for c in range(C)]
    logits, labels = random_logits(N, C), random_labels(C, N)
    expected = mean(
        [
            (a if label == background else 1 - a)
            * (1 - softmax_of(row)[label]) ** GAMMA
            * -math.log(softmax_of(row)[label])
            for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        ]
    )
    check(FocalLossX(use_sigmoid=False, gamma=GAMMA, alpha=alpha), logits, labels, expected)


@pytest.mark.parametrize('wrong', [[0.25, 0.75], [[0.25], [0.75], [0.75]], [0.25, -1, 0.75]])
def test_a_list_that_does_not_fit_the_classes_is_named(wrong):
    with pytest.raises((ValueError, TypeError), match='`alpha'):
        FocalLossX(use_sigmoid=False, alpha=wrong)(random_logits(N, C), random_labels(C, N))
