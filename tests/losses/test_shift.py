"""Whether a loss moves the level of the scores, or ranks them only."""

from __future__ import annotations

import pytest
import torch

from mmfocalx.losses.catalogue import classification_losses

LOSSES = classification_losses()
ROWS, CLASSES = 30, 4


@pytest.mark.parametrize('name', sorted(LOSSES))
def test_who_is_shift_invariant(name: str) -> None:
    kind = LOSSES[name]
    config = kind.example_config(CLASSES)
    config.pop('type')
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES + 1, (ROWS,), generator=g)
    quality = torch.rand(ROWS, generator=g, dtype=torch.float64)
    target = (labels, quality) if kind.quality_aware else labels
    logits = torch.randn(ROWS, CLASSES, generator=g, dtype=torch.float64)
    found = []
    for shift in (0.0, -4.0):
        pred = (logits + shift).requires_grad_()
        value = kind(**config)(pred, target, avg_factor=5.0)
        found.append((value.detach(), *torch.autograd.grad(value, pred)))
    (value, gradient), (shifted_value, shifted_gradient) = found
    unmoved = bool((value - shifted_value).abs() < 1e-9)
    assert unmoved == kind.shift_invariant
    assert torch.allclose(gradient, shifted_gradient, rtol=0, atol=1e-9) == kind.shift_invariant
    if kind.shift_invariant:
        assert abs(float(gradient.sum())) < 1e-9
