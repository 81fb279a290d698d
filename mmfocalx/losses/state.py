"""State that a loss keeps from call to call: when it may move, and what a repeated call reads.

Activation checkpointing calls a loss again within backward. The second call must read the state
that the first one read, or its gradient is that of another loss, and must not move it again.
"""

from __future__ import annotations

import copy
import weakref
from collections import deque
from typing import NamedTuple, TypeVar

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from .batch import Batch, plain_values
from .checks import wrong

Module = TypeVar('Module', bound=nn.Module)

MOST_CALLS = 1024
"""Calls of one iteration that activation checkpointing may repeat."""
CALLS_ON_EVERY_RANK = 'calls_its_loss_on_every_rank'
"""Attribute of a head that calls its loss also where its base leaves a call out."""
FEWER_CALLS_WITHOUT_BOXES = {
    'YOLOXHead': 'calls its loss on ranks with positives only',
    'DINOHead': 'leaves out the calls for denoising queries on a rank without boxes',
}


def is_transformed() -> bool:
    """Whether a transform of torch.func is at work, within which no state can be written."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def unwrapped(state: Tensor) -> Tensor:
    """A state that may outlive the transform within which it is read."""
    return plain_values(state) if is_transformed() else state


def repeats_a_differentiated_call() -> bool:
    """Whether this call is one that non-reentrant activation checkpointing makes in backward."""
    return _is_backward() and _has_saved_tensor_hooks()


class FormerStates:
    """The states that calls have read, as long as activation checkpointing may repeat those."""

    def __init__(self) -> None:
        self._calls: deque[_Call] = deque(maxlen=MOST_CALLS)
        self._repeated = False

    def keep(self, batch: Batch, state: Tensor) -> None:
        """Keep what a call in training reads, if it looks like one that may be repeated."""
        if torch.compiler.is_compiling() or is_transformed() or _is_backward():
            return
        if torch.is_grad_enabled() and not _has_saved_tensor_hooks():
            return
        if self._repeated:
            self._calls.clear()
            self._repeated = False
        self._calls.append(_Call(batch.x.shape, batch.x.device, _fingerprint(batch), state))

    def of(self, batch: Batch) -> Tensor | None:
        """What the call read that this one repeats; None if it repeats none."""
        if torch.compiler.is_compiling() or not self._calls or not _is_backward():
            return None
        fingerprint = _fingerprint(batch)
        alike = [
            call
            for call in self._calls
            if (call.shape, call.device) == (batch.x.shape, batch.x.device)
            and call.fingerprint.shape == fingerprint.shape
        ]
        if not alike:
            return None
        self._repeated = True
        # The nearest, on the device, as repeated arithmetic may round in another way.
        distance = (torch.stack([call.fingerprint for call in alike]) - fingerprint).abs().sum(1)
        nearest = distance.argmin().reshape(1)
        return torch.stack([call.state for call in alike]).index_select(0, nearest)[0]


class _Call(NamedTuple):
    shape: torch.Size
    device: torch.device
    fingerprint: Tensor
    state: Tensor


def refuse_heads_with_uneven_calls(loss: nn.Module, instead: str) -> None:
    """Under several ranks, have a head refuse a loss that communicates in every call.

    Args:
        loss: the loss; it may be a part of the one that the head is given.
        instead: what to do about it, for the error.

    Raises:
        ValueError: when a head that makes fewer calls on some ranks is given the loss.
    """
    if get_world_size() == 1:
        return
    watched = weakref.ref(loss)

    def check(parent: nn.Module, name: str, child: nn.Module | None) -> None:
        if child is None or all(module is not watched() for module in child.modules()):
            return
        if getattr(parent, CALLS_ON_EVERY_RANK, False):
            return
        for base in type(parent).__mro__:
            reason = FEWER_CALLS_WITHOUT_BOXES.get(base.__name__)
            if reason:
                wrong(
                    name,
                    f'a loss whose calls need no other rank: {type(parent).__name__} {reason}, so '
                    'that the ranks would wait for each other',
                    type(watched()).__name__,
                    hint=instead,
                )

    handle = register_module_module_registration_hook(check)
    weakref.finalize(loss, handle.remove).atexit = False


def with_buffers_of_now(module: Module) -> Module:
    """The module, or a shallow copy that later updates of its buffers do not reach."""
    if next(module.buffers(), None) is None:
        return module
    frozen = copy.copy(module)
    buffers = module._buffers.items()
    frozen._buffers = {name: None if b is None else b.clone() for name, b in buffers}
    children = module.named_children()
    frozen._modules = {name: with_buffers_of_now(child) for name, child in children}
    return frozen


@torch.no_grad()
def _fingerprint(batch: Batch) -> Tensor:
    parts = [part.float() for part in batch.by_row[:3] if part is not None]
    return torch.stack([*(part.sum() for part in parts), batch.x.float().square().sum()])


def _is_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _has_saved_tensor_hooks() -> bool:
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
