"""Value and gradient equal mmdet's own losses: to 1e-6 of the largest element in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import mmfocalx.losses

mmdet_losses = pytest.importorskip('mmdet.models.losses')

N, C = 50, 7
RTOL = {torch.float32: 1e-6, torch.float64: 1e-12}
REDUCTIONS: list[dict[str, Any]] = [
    {'reduction_override': 'none'},
    {'reduction_override': 'none', 'avg_factor': 3.0},
    {'reduction_override': 'sum'},
    {'reduction_override': 'mean'},
    {'avg_factor': 7.3},
    {'avg_factor': torch.tensor(7.3)},
    {'avg_factor': 0.0},
    {'avg_factor': 12, 'reduction_override': 'mean'},
]


def assert_equal(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert b.abs().max() > 0, 'nothing to compare'
    assert (a - b).abs().max() <= RTOL[dtype] * b.abs().max()


def assert_parity(
    name: str,
    kwargs: dict[str, Any],
    dtype: torch.dtype,
    ours: tuple[Any, Any],
    theirs: tuple[Any, Any],
) -> None:
    """``ours`` and ``theirs`` are target and weight, as each side wants them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, C, generator=generator, dtype=dtype) * 3
    if kwargs.get('activated'):
        logits = logits.sigmoid().clamp(1e-5, 1 - 1e-5)
    for call in REDUCTIONS:
        results = []
        for library, suffix, (target, weight) in (
            (mmfocalx.losses, 'X', ours),
            (mmdet_losses, '', theirs),
        ):
            pred = logits.clone().requires_grad_()
            loss = getattr(library, name + suffix)(**kwargs)(pred, target, weight, **call)
            (
                loss * torch.linspace(1, 2, loss.numel(), dtype=dtype).view(loss.shape)
            ).sum().backward()
            results.append((loss.detach(), pred.grad))
        assert_equal(results[0][0], results[1][0], dtype)
        assert_equal(results[0][1], results[1][1], dtype)


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, C + 1, (N,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def quality(dtype: torch.dtype) -> torch.Tensor:
    values = torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=dtype)
    values[::4] = 0.0
    values[1::4] = 1.0
    return values


def dense(labels: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    return F.one_hot(labels, C + 1)[:, :C] * quality[:, None]


def weights(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    values.view(-1)[::5] = 0.0
    return values


WEIGHT_SHAPES = [None, (N,), (N, 1), (N, C), (N * C,)]


@pytest.mark.parametrize('form', ['labels', 'one-hot', 'soft'])
@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'gamma': 0.0, 'alpha': 0.6},
        {'gamma': 1.5, 'alpha': 0.9, 'loss_weight': 2.0},
        {'activated': True},
        {'activated': True, 'gamma': 1.5, 'reduction': 'mean'},
    ],
    ids=str,
)
def test_focal(
    kwargs: Any, form: str, labels: torch.Tensor, quality: Any, dtype: torch.dtype
) -> None:
    target = labels
    if form != 'labels':
        target = dense(labels, quality if form == 'soft' else torch.ones_like(quality))
    for shape in WEIGHT_SHAPES:
        given = None if shape is None else weights(dtype, *shape)
        assert_parity('FocalLoss', kwargs, dtype, (target, given), (target, given))


@pytest.mark.parametrize('weight', [None, (N,), (N, 1), (N, C), (N * C,)], ids=str)
@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'iou_weighted': False},
        {'alpha': 0.3, 'gamma': 1.5, 'loss_weight': 0.5},
        {'gamma': 0.0, 'alpha': 1.0},
    ],
    ids=str,
)
def test_varifocal(
    kwargs: Any, weight: Any, labels: torch.Tensor, quality: torch.Tensor, dtype: torch.dtype
) -> None:
    target = dense(labels, quality)
    given = None if weight is None else weights(dtype, *weight)
    shaped = None if given is None else given.view(N, -1)  # all that mmdet supports here
    for ours in ((labels, quality), target):
        assert_parity('VarifocalLoss', kwargs, dtype, (ours, given), (target, shaped))


@pytest.mark.parametrize('weight', [None, (N,), (N, 1)], ids=str)
@pytest.mark.parametrize('form', ['tuple', 'dense'])
@pytest.mark.parametrize(
    'kwargs',
    [{}, {'beta': 0.0}, {'beta': 1.5, 'loss_weight': 2.0}, {'activated': True}],
    ids=str,
)
def test_quality_focal(
    kwargs: Any,
    form: str,
    weight: Any,
    labels: torch.Tensor,
    quality: torch.Tensor,
    dtype: torch.dtype,
) -> None:
    target: Any = (labels, quality) if form == 'tuple' else dense(labels, quality)
    given = None if weight is None else weights(dtype, *weight)
    flat = None if given is None else given.view(-1)  # all that mmdet supports here
    assert_parity('QualityFocalLoss', kwargs, dtype, (target, given), (target, flat))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize('name', ['FocalLoss', 'VarifocalLoss', 'QualityFocalLoss'])
def test_low_precision_is_computed_in_float32(
    name: str, dtype: torch.dtype, labels: torch.Tensor
) -> None:
    """As mmdet's loss of the same logits, cast to float32 before."""
    logits = (torch.randn(N, C, generator=torch.Generator().manual_seed(5)) * 3).to(dtype)
    target = dense(labels, torch.rand(N, generator=torch.Generator().manual_seed(2)))
    pred = logits.clone().requires_grad_()
    ours = getattr(mmfocalx.losses, name + 'X')()(pred, target)
    theirs_pred = logits.clone().requires_grad_()
    theirs = getattr(mmdet_losses, name)()(theirs_pred.float(), target)
    assert_equal(ours.float(), theirs, torch.float32)
    ours.backward()
    theirs.backward()
    assert pred.grad is not None and theirs_pred.grad is not None
    torch.testing.assert_close(pred.grad, theirs_pred.grad)
