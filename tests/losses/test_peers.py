"""Value and gradient equal those of other libraries, installed as tests/peers.txt says.

The benchmark calls them in the same way: ``benchmark/peers.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mmfocalx.losses
from benchmark.peers import peer

N, C = 60, 5
ALPHAS = [0.125, 0.875, 0.5, 0.25, 1.0]
Loss = Callable[[Tensor], Tensor]
RTOL = {torch.float32: 1e-5, torch.float64: 1e-10}
either_dtype = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)


def logits(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=g, dtype=torch.float64) * 3).to(dtype)


def labels(background: int = 1) -> Tensor:
    return torch.randint(0, C + background, (N,), generator=torch.Generator().manual_seed(1))


def one_hot(dtype: torch.dtype = torch.float64) -> Tensor:
    return F.one_hot(labels(), C + 1)[:, :C].to(dtype)


def soft(dtype: torch.dtype = torch.float64) -> Tensor:
    return one_hot(dtype) * torch.rand(N, 1, generator=torch.Generator().manual_seed(2)).to(dtype)


def masks() -> Tensor:
    g = torch.Generator().manual_seed(3)
    return (torch.rand(4, 1, 6, 7, generator=g, dtype=torch.float64) > 0.6).double()


def compare(ours: Loss, theirs: Loss, pred: Tensor) -> None:
    """Both losses of ``pred``, of any shape, and the gradients of their weighted sums."""
    results = []
    for loss in (ours, theirs):
        x = pred.clone().requires_grad_()
        value = loss(x)
        scale = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view(value.shape)
        (grad,) = torch.autograd.grad((value * scale).sum(), x)
        results.append((value.detach(), grad))
    for got, expected in zip(*results, strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        assert expected.abs().max() > 0, 'nothing to compare'
        assert (got - expected).abs().max() <= RTOL[pred.dtype] * expected.abs().max()


def our(kind: str, target: Any, reduction: str = 'none', **kwargs: Any) -> Loss:
    loss = getattr(mmfocalx.losses, kind)(reduction=reduction, **kwargs)
    return lambda x: loss(x, target)


def their(library: str, kind: str, target: Any, reduction: str = 'none', **kwargs: Any) -> Loss:
    """A library's call of the same loss, given the same arguments."""
    try:
        call = peer(library, kind).load(reduction, **kwargs)
    except ImportError as error:
        pytest.skip(str(error))
    return lambda x: call(x, target)


FOCAL = [
    {},
    {'alpha': None},
    {'gamma': 0.0, 'alpha': 0.6},
    {'gamma': 1.5, 'alpha': 0.9},
]
each_focal = pytest.mark.parametrize('kwargs', FOCAL, ids=str)


@either_dtype
@each_focal
@pytest.mark.parametrize('library', ['kornia', 'MONAI'])
def test_focal_of_hard_labels(library: str, kwargs: Any, dtype: torch.dtype) -> None:
    target = one_hot(dtype)
    compare(
        our('FocalLossX', target, **kwargs),
        their(library, 'FocalLossX', target, **kwargs),
        logits(N, C, dtype=dtype),
    )


@each_focal
@pytest.mark.parametrize('make_target', [one_hot, soft])
@pytest.mark.parametrize(
    ('library', 'dtype'),
    [
        ('fvcore', torch.float32),  # it computes in it whatever it is given
        ('imbalanced-losses', torch.float64),
        ('torchvision', torch.float64),
    ],
    ids=str,
)
def test_focal(library: str, dtype: torch.dtype, make_target: Any, kwargs: Any) -> None:
    target = make_target(dtype)
    compare(
        our('FocalLossX', target, **kwargs),
        their(library, 'FocalLossX', target, **kwargs),
        logits(N, C, dtype=dtype),
    )


@pytest.mark.parametrize('alpha', [None, ALPHAS], ids=str)
@pytest.mark.parametrize('gamma', [0.0, 1.5, 2.0])
@pytest.mark.parametrize('library', ['kornia', 'MONAI', 'imbalanced-losses'])
def test_softmax_focal(library: str, gamma: float, alpha: Any) -> None:
    target = labels(background=0)
    takes = peer(library, 'FocalLossX-softmax').takes
    theirs = their(
        library,
        'FocalLossX-softmax',
        target if 'labels' in takes else F.one_hot(target, C).double(),
        gamma=gamma,
        alpha=None if alpha is None else torch.tensor(alpha, dtype=torch.float64),
    )
    ours = our('FocalLossX', target, use_sigmoid=False, gamma=gamma, alpha=alpha)
    compare(ours, theirs, logits(N, C))


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_ignored_rows_of_imbalanced_losses(reduction: str) -> None:
    target = labels(background=0)
    target[::7] = -100
    settings = {'gamma': 1.5, 'reduction': reduction}
    alpha = torch.tensor(ALPHAS, dtype=torch.float64)
    compare(
        our('FocalLossX', target, use_sigmoid=False, ignore_index=-100, alpha=ALPHAS, **settings),
        their('imbalanced-losses', 'FocalLossX-softmax', target, alpha=alpha, **settings),
        logits(N, C),
    )


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'clip': 0.0},
        {'clip': 0.2, 'gamma_neg': 2.0},
        {'gamma_pos': 0.0, 'gamma_neg': 0.0, 'clip': 0.0},
    ],
    ids=str,
)
def test_asymmetric_of_timm(kwargs: Any) -> None:
    """Theirs computes in float32 and takes logarithms of probabilities, ours of logits."""
    target = one_hot(torch.float32)
    compare(
        our('AsymmetricLossX', target, **kwargs),
        their('timm', 'AsymmetricLossX', target, **kwargs),
        logits(N, C, dtype=torch.float32) / 2,
    )


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_focal_dice_of_monai(reduction: str) -> None:
    """Theirs computes the focal part in float32, and has no value for each sample."""
    target = masks().float()
    settings = {'gamma': 1.5, 'focal_weight': 3.0, 'dice_weight': 0.5, 'reduction': reduction}
    compare(
        our('FocalDiceLossX', target, **settings),
        their('MONAI', 'FocalDiceLossX', target, **settings),
        logits(*target.shape, dtype=torch.float32),
    )


@pytest.mark.parametrize('smooth', [1.0, 0.25])
def test_dice_of_mmdet(smooth: float) -> None:
    target = masks()[:, 0]
    compare(
        our('FocalDiceLossX', target, focal_weight=0.0, smooth=smooth),
        their('mmdet', 'FocalDiceLossX', target, smooth=smooth),
        logits(*target.shape),
    )
