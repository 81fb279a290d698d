"""Precision, devices, and the losses as modules: copies, state, registry."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

import mmfocalx.losses
from helpers.cases import (
    CHANNELS,
    Batch,
    Case,
    each_case,
    each_variation,
    make_batch,
)
from helpers.checks import (
    as_list,
    check_both,
    check_finite,
    check_gradient,
    check_value,
)

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


# -- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@each_variation
def test_low_precision(case: Case, kwargs: dict[str, Any], dtype: torch.dtype) -> None:
    """Computed in float32 from the rounded inputs, gradient in the dtype of the input."""
    for form in case.forms:
        check_both(case, kwargs, make_batch(case, form, lead=(5,), dtype=dtype, weight=(5,)))
    pred = torch.linspace(-30, 30, 24, dtype=dtype).view(-1, CHANNELS)
    target = torch.arange(6) % CHANNELS
    check_finite(case, {**kwargs, **case.half_gamma}, Batch(pred, target))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@each_case
def test_extreme_logits(case: Case, dtype: torch.dtype) -> None:
    """Finite value and gradient for every finite logit, also where gamma < 1."""
    extremes = [-1e4, -300.0, -100.0, -20.0, 0.0, 20.0, 100.0, 300.0, 1e4]
    pred = torch.tensor(extremes, dtype=dtype)[:, None].repeat(1, CHANNELS)
    pred[:, 0] = pred[:, 0].flip(0)
    targets: list[Any] = [torch.zeros(9, dtype=torch.long), torch.full((9,), CHANNELS - 1)]
    if not case.softmax:
        targets += [torch.full((9,), CHANNELS), (torch.arange(9) % 3, torch.linspace(0, 1, 9))]
    for kwargs in ({}, case.half_gamma, {**case.half_gamma, 'label_smoothing': 0.1}):
        for target in targets:
            batch = Batch(pred, target)
            check_finite(case, kwargs, batch)
            if dtype in (torch.float64, torch.float32):
                check_value(case, kwargs, batch)
            if dtype == torch.float64:
                away_from_kinks = Batch(pred + 0.37, target)
                check_gradient(case, kwargs, away_from_kinks, rtol=1e-4)


def gradient_at(loss: Any, x: list[float], y: list[float]) -> list[float]:
    pred = torch.tensor(x, dtype=torch.float64)[:, None].requires_grad_()
    dense = torch.tensor(y, dtype=torch.float64)[:, None]
    loss(pred, dense, reduction_override='sum').backward()
    return as_list(pred.grad)


@pytest.mark.parametrize('beta', [0.25, 0.5, 0.99])
def test_quality_focal_kink_has_subgradient_zero(beta: float) -> None:
    loss = mmfocalx.losses.QualityFocalLossX(beta=beta)
    assert gradient_at(loss, [0.0, 1e4, -1e4], [0.5, 1.0, 0.0]) == [0.0, 0.0, 0.0]
    probabilities = mmfocalx.losses.QualityFocalLossX(beta=beta, activated=True)
    assert gradient_at(probabilities, [0.5], [0.5]) == [0.0]


@pytest.mark.parametrize('gamma_neg', [0.0, 0.5, 1.0, 4.0])
def test_asymmetric_clip_has_subgradient_zero(gamma_neg: float) -> None:
    loss = mmfocalx.losses.AsymmetricLossX(gamma_neg=gamma_neg, clip=0.5)
    assert gradient_at(loss, [0.0, -0.1, -3.0, -1e4], [0.0] * 4) == [0.0] * 4


@pytest.mark.parametrize('device', ['meta'])
@each_case
def test_reads_no_value_off_the_cpu(case: Case, device: str) -> None:
    """Any synchronisation with a device would raise on the meta device."""
    for form in case.forms:
        batch = make_batch(case, form, weight=(9,), dtype=torch.float32, ignore=255)
        target = batch.target
        target = (
            tuple(t.to(device) for t in target) if isinstance(target, tuple) else target.to(device)
        )
        kwargs = {'ignore_index': 255, 'ohem_ratio': 0.5, 'label_smoothing': 0.1}
        loss = case.build(kwargs).to(device)
        pred = batch.pred.to(device).requires_grad_()
        assert batch.weight is not None
        avg_factor = torch.ones(1, device=device)
        for avg in (None, avg_factor):
            loss(pred, target, batch.weight.to(device), avg_factor=avg).backward()
        assert pred.grad is not None and pred.grad.shape == pred.shape


# -- the module -----------------------------------------------------------------------------------


@each_case
def test_copies_and_state(case: Case) -> None:
    batch = make_batch(case)
    loss = case.build({'loss_weight': 2.0})
    expected = loss(batch.pred, batch.target)
    restored = case.kind(**case.settings(loss_weight=2.0))
    restored.load_state_dict(loss.state_dict(), strict=True)
    restored.train(loss.training)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), restored):
        torch.testing.assert_close(other(batch.pred, batch.target), expected)
    assert not list(loss.parameters())


@each_case
def test_builds_from_the_root_registry(case: Case) -> None:
    loss = MODELS.build({**case.kind.example_config(CHANNELS), 'use_sigmoid': not case.softmax})
    assert type(loss) is getattr(mmfocalx.losses, case.type)
    assert loss.use_sigmoid is not case.softmax


def test_builds_in_the_scope_of_mmdet() -> None:
    registry = pytest.importorskip('mmdet.registry').MODELS
    assert isinstance(registry.build({'type': 'FocalLossX'}), mmfocalx.losses.FocalLossX)
    with pytest.raises(KeyError):
        registry.build({'type': 'mmdet.FocalLossX'})


def test_losses_need_only_torch_and_mmengine() -> None:
    code = (
        'import sys\n'
        'for name in ("mmdet", "mmcv"): sys.modules[name] = None\n'
        'import mmfocalx.losses, torch\n'
        'mmfocalx.losses.FocalLossX()(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=300)


@each_case
def test_inputs_are_left_alone(case: Case) -> None:
    for form in case.forms:
        batch = make_batch(case, form, weight=(9, CHANNELS), ignore=-1)
        kept = copy.deepcopy(batch)
        kwargs = {'ignore_index': -1, 'label_smoothing': 0.1, 'ohem_ratio': 0.5}
        case.build(kwargs)(batch.pred, batch.target, batch.weight)
        torch.testing.assert_close(batch.pred, kept.pred, rtol=0, atol=0)
        torch.testing.assert_close(batch.target, kept.target, rtol=0, atol=0)
        torch.testing.assert_close(batch.weight, kept.weight, rtol=0, atol=0)
