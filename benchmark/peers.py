"""The steps that are timed beside each other: ours, other libraries', yardsticks and the floor."""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.cases import SOFTMAX, Batch, Case

Value = Callable[[Tensor], Tensor]
OURS, EAGER = 'ours', 'ours, eager'
FLOOR, NEW_MEMORY, COPY = 'floor', 'floor, new memory', 'copy'
PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    FLOOR: lambda x, buffer: torch.sigmoid(x, out=buffer),
    NEW_MEMORY: lambda x, buffer: torch.sigmoid(x),
    COPY: lambda x, buffer: buffer.copy_(x),
}
"""Steps without a derivative, of the logits and a buffer as large."""
PARTS = (NEW_MEMORY, COPY)
"""Those that only serve to take our time apart."""
FOCAL, BCE, CROSS_ENTROPY = 'our FocalLossX', 'torch BCE', 'torch cross-entropy'


class Candidate(NamedTuple):
    """A step on logits.

    Attributes:
        name: as shown.
        value: logits to the 0-d loss; None for the steps of :data:`PLAIN`.
        same: whether it has to agree with ours in value and gradient.
    """

    name: str
    value: Value | None
    same: bool


def candidates(case: Case, batch: Batch) -> tuple[list[Candidate], dict[str, str]]:
    """The steps of a case, ours first, and why others cannot take part."""
    found = [
        Candidate(OURS, _ours(case, batch, fused=True), True),
        Candidate(EAGER, _ours(case, batch, fused=False), True),
    ]
    missing: dict[str, str] = {}
    for name, make in PEERS.get(case.loss, {}).items():
        try:
            found.append(Candidate(name, make(batch), True))
        except (ImportError, AssertionError, AttributeError) as error:
            missing[name] = f'{type(error).__name__}: {error}'
    if case.loss == SOFTMAX:
        found.append(Candidate(CROSS_ENTROPY, _cross_entropy(batch), False))
    else:
        found.append(Candidate(BCE, _bce(batch), False))
    if case.loss != 'FocalLossX':
        focal = Case('FocalLossX', case.size, case.dtype, case.form)
        found.append(Candidate(FOCAL, _ours(focal, batch, fused=True), False))
    found += [Candidate(name, None, False) for name in PLAIN]
    return found, missing


def _ours(case: Case, batch: Batch, fused: bool) -> Value:
    loss, target = case.build(fused), batch.target
    start = copy.deepcopy(loss.state_dict())

    def value(x: Tensor) -> Tensor:
        if start:  # what a step changes must not change the next one
            loss.load_state_dict(start)
        total: Tensor = loss(x, target, avg_factor=batch.avg_factor)
        return total

    return value


def _summed(batch: Batch, entries: Callable[[Tensor, Tensor], Tensor]) -> Value:
    """A sum over dense targets, made in the step unless they are given."""
    return lambda x: entries(x, batch.scores()) / batch.avg_factor


def _bce(batch: Batch) -> Value:
    return _summed(batch, lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction='sum'))


def _cross_entropy(batch: Batch) -> Value:
    return lambda x: F.cross_entropy(x, batch.labels, reduction='sum') / batch.avg_factor


def _mmdet(name: str, batch: Batch) -> Value:
    loss = getattr(importlib.import_module('mmdet.models.losses'), name)(use_sigmoid=True)

    def value(x: Tensor) -> Tensor:
        target: Any = batch.target
        if name == 'QualityFocalLoss' and batch.form == 'labels':
            target = batch.labels, batch.quality
        elif name == 'VarifocalLoss' or (name == 'FocalLoss' and batch.form == 'tuple'):
            target = batch.scores()
        return loss(x, target, avg_factor=batch.avg_factor)

    return value


def _fvcore(batch: Batch) -> Value:
    focal = _one_file('fvcore', 'nn/focal_loss.py').sigmoid_focal_loss
    return _summed(batch, lambda x, y: focal(x, y, alpha=0.25, gamma=2.0, reduction='sum'))


def _kornia(batch: Batch) -> Value:
    kornia = importlib.import_module('kornia.losses')
    return _summed(batch, kornia.BinaryFocalLossWithLogits(0.25, 2.0, reduction='sum'))


def _monai(batch: Batch) -> Value:
    monai = importlib.import_module('monai.losses.focal_loss')
    focal = monai.sigmoid_focal_loss
    return _summed(batch, lambda x, y: focal(x, y, gamma=2.0, alpha=0.25).sum())


def _imbalanced(batch: Batch) -> Value:
    peer = importlib.import_module('imbalanced_losses')
    return _summed(batch, peer.SigmoidFocalLoss(alpha=0.25, gamma=2.0, reduction='sum'))


def _imbalanced_softmax(batch: Batch) -> Value:
    peer = importlib.import_module('imbalanced_losses')
    alpha = [0.25] * batch.logits.shape[1]
    loss = peer.SoftmaxFocalLoss(alpha=alpha, gamma=2.0, reduction='sum')
    return lambda x: loss(x, batch.labels) / batch.avg_factor


def _timm(batch: Batch) -> Value:
    timm = _one_file('timm', 'loss/asymmetric_loss.py')
    loss = timm.AsymmetricLossMultiLabel(gamma_pos=1, gamma_neg=4, clip=0.05, reduction='sum')
    return _summed(batch, loss)


def _one_file(package: str, path: str) -> ModuleType:
    """A module of a package whose ``__init__`` imports more than is installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f'No module named {package!r}')
    file = Path(found.origin).parent / path
    spec = importlib.util.spec_from_file_location(f'{package}_one_file', file)
    if spec is None or spec.loader is None:
        raise ImportError(f'{package} has no {path}')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PEERS: dict[str, dict[str, Callable[[Batch], Value]]] = {
    'FocalLossX': {
        'mmdet FocalLoss': lambda batch: _mmdet('FocalLoss', batch),
        'fvcore': _fvcore,
        'kornia': _kornia,
        'MONAI': _monai,
        'imbalanced-losses': _imbalanced,
    },
    'VarifocalLossX': {'mmdet VarifocalLoss': lambda batch: _mmdet('VarifocalLoss', batch)},
    'QualityFocalLossX': {
        'mmdet QualityFocalLoss': lambda batch: _mmdet('QualityFocalLoss', batch)
    },
    'AsymmetricLossX': {'timm': _timm},
    SOFTMAX: {'imbalanced-losses': _imbalanced_softmax},
}
"""Per loss, other implementations of the same function."""


def gradient_step(value: Value, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward: value and gradient."""
    x = logits.detach().requires_grad_()
    loss = value(x)
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient
