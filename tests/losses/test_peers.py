"""Value and gradient equal those of other libraries, installed as tests/peers.txt says."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mmfocalx.losses

N, C = 60, 5
ALPHAS = [0.125, 0.875, 0.5, 0.25, 1.0]
Loss = Callable[[Tensor], Tensor]
RTOL = {torch.float32: 1e-5, torch.float64: 1e-10}
either_dtype = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)


def one_file(package: str, path: str) -> ModuleType:
    """A module of a package whose ``__init__`` imports more than is installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f'could not find {package}')
    spec = importlib.util.spec_from_file_location(
        f'{package}_one_file', Path(spec.origin).parent / path
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def our(kind: str, target: Any, **kwargs: Any) -> Loss:
    loss = getattr(mmfocalx.losses, kind)(reduction='none', **kwargs)
    return lambda x: loss(x, target)


FOCAL = [
    {},
    {'alpha': None},
    {'gamma': 0.0, 'alpha': 0.6},
    {'gamma': 1.5, 'alpha': 0.9},
]
each_focal = pytest.mark.parametrize('kwargs', FOCAL, ids=str)


@either_dtype
@each_focal
def test_focal_of_kornia(kwargs: Any, dtype: torch.dtype) -> None:
    kornia = pytest.importorskip('kornia.losses')
    target = one_hot(dtype)
    given = {'alpha': 0.25, 'gamma': 2.0, **kwargs}
    compare(
        our('FocalLossX', target, **kwargs),
        lambda x: kornia.binary_focal_loss_with_logits(x, target, reduction='none', **given),
        logits(N, C, dtype=dtype),
    )


@pytest.mark.parametrize('gamma', [0.0, 1.5, 2.0])
def test_softmax_focal_of_kornia(gamma: float) -> None:
    """Its map of every class, of which ours is the sum; its alpha takes class 0 as background."""
    kornia = pytest.importorskip('kornia.losses')
    target = labels(background=0)
    weight = torch.tensor(ALPHAS, dtype=torch.float64)
    compare(
        our('FocalLossX', target, use_sigmoid=False, gamma=gamma, alpha=ALPHAS),
        lambda x: kornia.focal_loss(x, target, None, gamma, 'none', weight).sum(1),
        logits(N, C),
    )


@either_dtype
@each_focal
def test_focal_of_monai(kwargs: Any, dtype: torch.dtype) -> None:
    monai = pytest.importorskip('monai.losses.focal_loss')
    target = one_hot(dtype)
    given = {'alpha': 0.25, 'gamma': 2.0, **kwargs}
    compare(
        our('FocalLossX', target, **kwargs),
        lambda x: monai.sigmoid_focal_loss(x, target, **given),
        logits(N, C, dtype=dtype),
    )


@pytest.mark.parametrize('alpha', [None, ALPHAS], ids=str)
def test_softmax_focal_of_monai(alpha: Any) -> None:
    """A scalar alpha of theirs takes class 0 as background."""
    monai = pytest.importorskip('monai.losses.focal_loss')
    target = labels(background=0)
    theirs = None if alpha is None else torch.tensor(alpha, dtype=torch.float64)
    compare(
        our('FocalLossX', target, use_sigmoid=False, alpha=alpha),
        lambda x: monai.softmax_focal_loss(x, F.one_hot(target, C).double(), 2.0, theirs).sum(1),
        logits(N, C),
    )


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_focal_dice_of_monai(reduction: str) -> None:
    """Theirs computes the focal part in float32, and has no value per sample."""
    monai = pytest.importorskip('monai.losses')
    target = masks().float()
    theirs = monai.DiceFocalLoss(
        sigmoid=True,
        smooth_nr=1.0,
        smooth_dr=1.0,
        gamma=1.5,
        alpha=0.25,
        lambda_focal=3.0,
        lambda_dice=0.5,
        reduction=reduction,
    )
    ours = mmfocalx.losses.FocalDiceLossX(
        gamma=1.5, focal_weight=3.0, dice_weight=0.5, reduction=reduction
    )
    pred = logits(*target.shape, dtype=torch.float32)
    compare(lambda x: ours(x, target), lambda x: theirs(x, target), pred)


def test_dice_of_mmdet() -> None:
    mmdet = pytest.importorskip('mmdet.models.losses')
    target = masks()[:, 0]
    theirs = mmdet.DiceLoss(naive_dice=True, eps=1.0, reduction='none')
    ours = mmfocalx.losses.FocalDiceLossX(focal_weight=0.0, reduction='none')
    compare(lambda x: ours(x, target), lambda x: theirs(x, target), logits(*target.shape))


@each_focal
@pytest.mark.parametrize('make_target', [one_hot, soft])
def test_focal_of_fvcore(make_target: Any, kwargs: Any) -> None:
    """Theirs computes in float32."""
    fvcore = one_file('fvcore', 'nn/focal_loss.py')
    target = make_target(torch.float32)
    given = {'alpha': 0.25, 'gamma': 2.0, **kwargs}
    given['alpha'] = -1 if given['alpha'] is None else given['alpha']
    compare(
        our('FocalLossX', target, **kwargs),
        lambda x: fvcore.sigmoid_focal_loss(x, target, **given),
        logits(N, C, dtype=torch.float32),
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
    timm = one_file('timm', 'loss/asymmetric_loss.py')
    target = one_hot(torch.float32)
    theirs = timm.AsymmetricLossMultiLabel(reduction='none', **kwargs)
    compare(
        our('AsymmetricLossX', target, **kwargs),
        lambda x: theirs(x, target),
        logits(N, C, dtype=torch.float32) / 2,
    )


@pytest.mark.parametrize('make_target', [one_hot, soft])
@each_focal
def test_focal_of_imbalanced_losses(kwargs: Any, make_target: Any) -> None:
    peer = pytest.importorskip('imbalanced_losses')
    target = make_target()
    given = {'alpha': 0.25, 'gamma': 2.0, **kwargs}
    given['alpha'] = -1 if given['alpha'] is None else given['alpha']
    theirs = peer.SigmoidFocalLoss(reduction='none', **given)
    compare(our('FocalLossX', target, **kwargs), lambda x: theirs(x, target), logits(N, C))


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_softmax_focal_of_imbalanced_losses(reduction: str) -> None:
    peer = pytest.importorskip('imbalanced_losses')
    target = labels(background=0)
    target[::7] = -100
    theirs = peer.SoftmaxFocalLoss(alpha=ALPHAS, gamma=1.5, reduction=reduction)
    ours = mmfocalx.losses.FocalLossX(
        use_sigmoid=False, alpha=ALPHAS, gamma=1.5, reduction=reduction, ignore_index=-100
    )
    compare(lambda x: ours(x, target), lambda x: theirs(x, target), logits(N, C))
