"""The steps of a case: ours, other libraries', yardsticks and the floor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.cases import FORMS, Batch, Case, main_losses
from benchmark.peers import Peer, peers_of

OURS, EAGER = 'ours', 'ours, eager'
FLOOR, FLOOR_NEW_MEMORY, COPY = 'floor', 'floor, new memory', 'copy'
PARTS = (FLOOR_NEW_MEMORY, COPY)
"""The steps that only serve to take our time apart."""
WITHOUT_GRADIENT = (FLOOR, *PARTS)
BCE, CROSS_ENTROPY = 'torch BCE', 'torch cross-entropy'


def nothing() -> None:
    """Stands where a step has no state to restore."""


@dataclass(frozen=True)
class Step:
    """One thing to measure.

    Attributes:
        name: as shown.
        run: the step; a loss's gives its value and its gradient by the logits.
        is_peer: whether value and gradient have to agree with ours; else it is a yardstick.
        restore: undoes what a run changes, so that runs are alike; not part of the step.
    """

    name: str
    run: Callable[[], Any]
    is_peer: bool = False
    restore: Callable[[], None] = nothing


def steps_of(case: Case, batch: Batch) -> tuple[list[Step], dict[str, str]]:
    """The steps of a case, ours first, and why others cannot take part."""
    steps = [
        _ours(OURS, case, batch, fused=True, is_peer=True),
        _ours(EAGER, case, batch, fused=False, is_peer=True),
    ]
    missing: dict[str, str] = {}
    for peer in peers_of(case.loss, batch.logits.device.type):
        try:
            steps.append(_peer(peer, case, batch))
        except Exception as error:  # whatever an installed package raises when it is imported
            missing[peer.library] = f'{type(error).__name__}: {error}'
    steps.append(_cross_entropy(batch) if case.softmax else _bce(batch))
    yardstick = main_losses()[0]
    if case.loss != yardstick:
        other = Case(yardstick, case.size, case.dtype, case.form)
        steps.append(_ours(f'our {yardstick}', other, batch, fused=True))
    x, buffer = batch.logits, torch.zeros_like(batch.logits)
    return [
        *steps,
        Step(FLOOR, partial(torch.sigmoid, x, out=buffer)),
        Step(FLOOR_NEW_MEMORY, partial(torch.sigmoid, x)),
        Step(COPY, partial(buffer.copy_, x)),
    ], missing


def gradient_step(value: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward: value and gradient."""
    x = logits.detach().requires_grad_()
    loss = value(x)
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


def _ours(name: str, case: Case, batch: Batch, fused: bool, is_peer: bool = False) -> Step:
    loss = case.build(fused).to(batch.logits.device)
    start = copy.deepcopy(loss.state_dict())
    restore = partial(loss.load_state_dict, start) if start else nothing
    value = partial(loss, target=batch.target(), avg_factor=batch.avg_factor)
    return Step(name, partial(gradient_step, value, batch.logits), is_peer, restore)


def _peer(peer: Peer, case: Case, batch: Batch) -> Step:
    alpha = batch.logits.new_full(case.size[1:], 0.25)
    call = peer.load('sum', **({'alpha': alpha} if case.softmax else {}))
    return _summed(peer.library, call, batch, peer.takes, is_peer=True)


def _bce(batch: Batch) -> Step:
    call = partial(F.binary_cross_entropy_with_logits, reduction='sum')
    return _summed(BCE, call, batch, ('dense',))


def _cross_entropy(batch: Batch) -> Step:
    call = partial(F.cross_entropy, reduction='sum')
    return _summed(CROSS_ENTROPY, call, batch, ('labels',))


def _summed(
    name: str,
    call: Callable[[Tensor, Any], Tensor],
    batch: Batch,
    forms: tuple[str, ...] = FORMS,
    is_peer: bool = False,
) -> Step:
    def value(x: Tensor) -> Tensor:
        return call(x, batch.target(forms)) / batch.avg_factor

    return Step(name, partial(gradient_step, value, batch.logits), is_peer)
