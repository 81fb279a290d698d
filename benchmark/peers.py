"""Other libraries' implementations of our losses: the one place that knows how to call them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Call = Callable[[Tensor, Any], Tensor]
"""Logits and targets to a loss."""


@dataclass(frozen=True)
class Peer:
    """Another implementation of one of our losses.

    Attributes:
        library: its name.
        loss: the name of our loss, with '-softmax' for its softmax form.
        load: imports the library and makes the call. It takes a ``reduction``, 'none' or 'sum' for
            every peer, and arguments named as our loss's, with our defaults. The ``alpha`` of a
            softmax form is a tensor with one number for each class, or None.
        takes: the forms of targets that it takes: 'labels', 'tuple' or 'dense'.
        devices: the devices that it runs on.
    """

    library: str
    loss: str
    load: Callable[..., Call]
    takes: tuple[str, ...] = ('dense',)
    devices: tuple[str, ...] = ('cpu', 'cuda')


def peers_of(loss: str, device: str = 'cpu') -> list[Peer]:
    """The peers of one of our losses that run on a device."""
    return [peer for peer in PEERS if peer.loss == loss and device in peer.devices]


def losses_of(library: str) -> list[str]:
    """The losses of ours that a library has too."""
    return [peer.loss for peer in PEERS if peer.library == library]


def peer(library: str, loss: str) -> Peer:
    """A library's implementation of one of our losses."""
    return next(one for one in PEERS if (one.library, one.loss) == (library, loss))


def _mmdet(kind: str, reduction: str, **settings: Any) -> Call:
    losses = importlib.import_module('mmdet.models.losses')
    loss: Call = getattr(losses, kind)(use_sigmoid=True, reduction=reduction, **settings)
    return loss


def _mmcv(reduction: str, gamma: float = 2.0, alpha: float = 0.25) -> Call:
    operator = importlib.import_module('mmcv.ops').sigmoid_focal_loss
    return lambda x, labels: operator(x, labels, gamma, alpha, None, reduction)


def _fvcore(reduction: str, gamma: float = 2.0, alpha: float | None = 0.25) -> Call:
    focal = one_file('fvcore', 'nn/focal_loss.py').sigmoid_focal_loss
    return partial(focal, gamma=gamma, alpha=_or_minus_one(alpha), reduction=reduction)


def _torchvision(reduction: str, gamma: float = 2.0, alpha: float | None = 0.25) -> Call:
    focal = importlib.import_module('torchvision.ops').sigmoid_focal_loss
    return partial(focal, gamma=gamma, alpha=_or_minus_one(alpha), reduction=reduction)


def _torchvision_compiled(reduction: str, **settings: Any) -> Call:
    compiled: Call = torch.compile(_torchvision(reduction, **settings))
    return compiled


def _kornia(reduction: str, gamma: float = 2.0, alpha: float | None = 0.25) -> Call:
    focal = importlib.import_module('kornia.losses').binary_focal_loss_with_logits
    return partial(focal, gamma=gamma, alpha=alpha, reduction=reduction)


def _monai(reduction: str, gamma: float = 2.0, alpha: float | None = 0.25) -> Call:
    focal = importlib.import_module('monai.losses.focal_loss').sigmoid_focal_loss
    return _reduced(reduction, partial(focal, gamma=gamma, alpha=alpha))


def _imbalanced(reduction: str, gamma: float = 2.0, alpha: float | None = 0.25) -> Call:
    losses = importlib.import_module('imbalanced_losses')
    loss: Call = losses.SigmoidFocalLoss(_or_minus_one(alpha), gamma, reduction=reduction)
    return loss


def _kornia_softmax(reduction: str, gamma: float = 2.0, alpha: Tensor | None = None) -> Call:
    """Its value of every class, of which ours is the sum; its alpha takes class 0 as background."""
    focal = importlib.import_module('kornia.losses').focal_loss
    return _reduced(
        reduction, lambda x, labels: focal(x, labels, None, gamma, 'none', alpha).sum(1)
    )


def _monai_softmax(reduction: str, gamma: float = 2.0, alpha: Tensor | None = None) -> Call:
    """A scalar alpha of theirs takes class 0 as background."""
    focal = importlib.import_module('monai.losses.focal_loss').softmax_focal_loss
    return _reduced(reduction, lambda x, scores: focal(x, scores, gamma, alpha).sum(1))


def _imbalanced_softmax(reduction: str, gamma: float = 2.0, alpha: Tensor | None = None) -> Call:
    losses = importlib.import_module('imbalanced_losses')
    loss: Call = losses.SoftmaxFocalLoss(alpha=alpha, gamma=gamma, reduction=reduction)
    return loss


def _timm(
    reduction: str, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05
) -> Call:
    losses = one_file('timm', 'loss/asymmetric_loss.py')
    loss: Call = losses.AsymmetricLossMultiLabel(
        gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip, reduction=reduction
    )
    return loss


def _monai_masks(
    reduction: str,
    gamma: float = 2.0,
    alpha: float = 0.25,
    focal_weight: float = 1.0,
    dice_weight: float = 1.0,
    smooth: float = 1.0,
) -> Call:
    """Theirs has no value for each sample."""
    loss: Call = importlib.import_module('monai.losses').DiceFocalLoss(
        sigmoid=True,
        smooth_nr=smooth,
        smooth_dr=smooth,
        gamma=gamma,
        alpha=alpha,
        lambda_focal=focal_weight,
        lambda_dice=dice_weight,
        reduction=reduction,
    )
    return loss


def _mmdet_masks(reduction: str, smooth: float = 1.0) -> Call:
    """The dice part alone."""
    losses = importlib.import_module('mmdet.models.losses')
    loss: Call = losses.DiceLoss(naive_dice=True, eps=smooth, reduction=reduction)
    return loss


PEERS = (
    Peer('mmdet', 'FocalLossX', partial(_mmdet, 'FocalLoss'), ('labels', 'dense')),
    Peer('mmdet', 'VarifocalLossX', partial(_mmdet, 'VarifocalLoss')),
    Peer('mmdet', 'QualityFocalLossX', partial(_mmdet, 'QualityFocalLoss'), ('tuple', 'dense')),
    Peer('mmcv', 'FocalLossX', _mmcv, ('labels',), ('cuda',)),
    Peer('fvcore', 'FocalLossX', _fvcore),
    Peer('torchvision', 'FocalLossX', _torchvision),
    Peer('torchvision, compiled', 'FocalLossX', _torchvision_compiled),
    Peer('kornia', 'FocalLossX', _kornia),
    Peer('MONAI', 'FocalLossX', _monai),
    Peer('imbalanced-losses', 'FocalLossX', _imbalanced),
    Peer('kornia', 'FocalLossX-softmax', _kornia_softmax, ('labels',)),
    Peer('MONAI', 'FocalLossX-softmax', _monai_softmax),
    Peer('imbalanced-losses', 'FocalLossX-softmax', _imbalanced_softmax, ('labels',)),
    Peer('timm', 'AsymmetricLossX', _timm),
    Peer('MONAI', 'FocalDiceLossX', _monai_masks),
    Peer('mmdet', 'FocalDiceLossX', _mmdet_masks),
)


def one_file(package: str, path: str) -> ModuleType:
    """A module of a package whose ``__init__`` imports more than is installed.

    Raises:
        ImportError: if the package or the file is missing.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f'No module named {package!r}')
    file = Path(found.origin).parent / path
    spec = importlib.util.spec_from_file_location(f'{package}_one_file', file)
    if spec is None or spec.loader is None or not file.exists():
        raise ImportError(f'{package} has no {path}')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _or_minus_one(alpha: float | None) -> float:
    """Some libraries write -1 for no alpha."""
    return -1.0 if alpha is None else alpha


def _reduced(reduction: str, entries: Call) -> Call:
    """The call of a library without reductions."""
    return (lambda x, target: entries(x, target).sum()) if reduction == 'sum' else entries
