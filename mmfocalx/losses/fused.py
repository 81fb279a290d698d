"""Value and gradient of a reduced loss in one pass over the logits.

The pass keeps nothing but the gradient, of the size of the logits. Compiled, it is one loop that
reads each logit once; eager, it works through blocks of rows small enough for a CPU's cache. Both
run the loss's own ``entries``.
"""

from __future__ import annotations

import copy
import logging
import os
import time
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from . import elementary
from .checks import wrong
from .targets import CheckedTarget

if TYPE_CHECKING:
    from .base import DenseClsLoss

SWITCH = 'MMFOCALX_FUSED'
WORTH_COMPILING = 2**20
"""Entries of one call from which 'auto' compiles: below, a step gains about as much as it costs."""
TRUSTING: dict[str, Any] = {'cpp.vec_isa_ok': True}
"""Takes the compiler to know the vector instructions of this CPU, instead of compiling and loading
a trial of each, which is most of the time that the first pass takes on a machine."""
BLOCK = 2**18
"""Entries of one block of the eager pass."""

Loss = TypeVar('Loss', bound=nn.Module)
Pass = Callable[..., tuple[Tensor, Tensor]]


def scaled_sum(
    loss: DenseClsLoss,
    x: Tensor,
    checked: CheckedTarget,
    weight: Tensor | None,
    factor: float,
    divisor: float | Tensor,
) -> Tensor:
    """``factor`` times the sum of the entries of a loss, over ``divisor``: 0-d.

    Args:
        loss: the loss, whose ``fused`` chooses the pass.
        x: (N, C) predictions as given.
        checked: their targets.
        weight: (N, 1), (N, C) or None.
        factor: a number.
        divisor: a number or a 0-d tensor.
    """
    if isinstance(divisor, Tensor):
        scale = factor / divisor.to(x.device, computed_in(x))
    else:
        scale = x.new_full((), factor / divisor, dtype=computed_in(x))
    if x.shape[0] > 1 and _only_x_is_trained(loss, x, weight, scale):
        run = _compiled_pass(loss, x, checked, weight)
        if run is None and x.numel() > BLOCK:
            run = _blockwise
        if run is not None:
            return _OnePass.apply(x, loss, checked, weight, scale, run)
    return loss.entries(x, checked, weight).sum() * scale


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        loss: DenseClsLoss,
        checked: CheckedTarget,
        weight: Tensor | None,
        scale: Tensor,
        run: Pass,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            total, ctx.gradient = run(loss, x.detach(), checked, weight, scale)
        ctx.save_for_backward(x)
        ctx.call = _with_state_of_now(loss), checked, weight, scale
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            gradient = _plain_gradient(ctx, grad_output)
        elif grad_output.device.type != 'cpu' or grad_output != 1:
            gradient.mul_(grad_output)
        return gradient.to(ctx.saved_tensors[0].dtype), None, None, None, None, None


def _plain_gradient(ctx: Any, grad_output: Tensor) -> Tensor:
    """The gradient by the plain formula: of a second backward, or one to be differentiated."""
    (x,), (loss, checked, weight, scale) = ctx.saved_tensors, ctx.call
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view, as what is hooked to x is called by the backward around this one.
        x = x.view_as(x) if create_graph else x.detach().requires_grad_()
        total = loss.entries(x, checked, weight).sum() * scale
        return torch.autograd.grad(total, x, grad_output, create_graph=create_graph)[0]


def _value_and_gradient(
    loss: DenseClsLoss,
    x: Tensor,
    checked: CheckedTarget,
    weight: Tensor | None,
    scale: Tensor,
    row_zeros: Tensor,
) -> tuple[Tensor, Tensor]:
    """The whole pass, to be compiled.

    Args:
        loss: see :func:`scaled_sum`, as for the others.
        x: (N, C) predictions.
        checked: their targets.
        weight: (N, 1), (N, C) or None.
        scale: 0-d factor of the sum.
        row_zeros: (N,) zeros that the compiler does not know to be zero. They keep the loops over
            rows and over classes apart: flattened to one loop, what the formula uses twice would
            not fuse with the row sums and go through memory.
    """
    gradient_type = _gradient_type(x)

    def total(x: Tensor) -> Tensor:
        entries = loss.entries(x, checked, weight)
        # Row by row, so that the sum and the gradient share one loop.
        return (entries if entries.ndim == 1 else entries.sum(dim=1)).sum()

    x = x.to(computed_in(x)) + row_zeros[:, None]
    gradient, value = torch.func.grad_and_value(total)(x)
    return value * scale, (gradient * scale).to(gradient_type)


def _blockwise(
    loss: DenseClsLoss, x: Tensor, checked: CheckedTarget, weight: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The whole pass, eager, block by block."""
    gradient = torch.empty_like(x, dtype=_gradient_type(x), memory_format=torch.contiguous_format)
    sums = []
    for rows in blocks(x):
        block = x[rows].to(computed_in(x)).requires_grad_()
        with torch.enable_grad():
            part = loss.entries(block, checked.rows(rows), None if weight is None else weight[rows])
            part = part.sum() * scale
        gradient[rows] = torch.autograd.grad(part, block)[0]
        sums.append(part.detach())
    return torch.stack(sums).sum(), gradient


def blocks(x: Tensor) -> Iterator[slice]:
    """The rows of (N, C) by as many as fit a cache."""
    rows = max(1, BLOCK // x.shape[1])
    return (slice(start, start + rows) for start in range(0, x.shape[0], rows))


def computed_in(x: Tensor) -> torch.dtype:
    """The type of the arithmetic on predictions: float32 for half precision."""
    return torch.promote_types(x.dtype, torch.float32)


def _gradient_type(x: Tensor) -> torch.dtype:
    """float32 for float16, which could not hold it before a loss scaler's factor is applied."""
    return torch.float32 if x.dtype == torch.float16 else x.dtype


def _only_x_is_trained(loss: DenseClsLoss, x: Tensor, weight: Tensor | None, scale: Tensor) -> bool:
    """Whether the gradient by ``x``, and no other derivative, is asked for."""
    others = (scale, *loss.parameters()) if weight is None else (scale, weight, *loss.parameters())
    return (
        x.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)
        and unpack_dual(x).tangent is None
        and not any(other.requires_grad for other in others)
        and not torch._C._are_functorch_transforms_active()
        # Checkpoints and offloading see what the plain formula saves; the pass saves nothing.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def _with_state_of_now(loss: Loss) -> Loss:
    """A shallow copy that later updates of the loss's buffers do not reach."""
    if next(loss.buffers(), None) is None:
        return loss
    frozen = copy.copy(loss)
    frozen._buffers = {name: None if b is None else b.clone() for name, b in loss._buffers.items()}
    inner = loss.named_children()
    frozen._modules = {name: _with_state_of_now(module) for name, module in inner}
    return frozen


_NO_PART_OF_THE_PASS = {'training', 'fused', 'reduction', 'loss_weight', 'ohem_ratio'}
_passes: dict[Any, Pass] = {}
_failures: dict[Any, str] = {}
_told: set[tuple[str, int, str]] = set()


def _compiled_pass(
    loss: DenseClsLoss, x: Tensor, checked: CheckedTarget, weight: Tensor | None
) -> Pass | None:
    """The compiled pass, or None, telling once why, where the loss runs eager."""
    obstacle = _obstacle(loss, x)
    if obstacle:
        _tell(loss, f'eager, because {obstacle}')
        return None
    present = [None if part is None else part.ndim for part in (*checked, weight)]
    key = (_settings(loss), x.shape[1], x.dtype, x.device.type, *present)
    if key in _failures and loss.fused is not True:
        return None
    if key not in _passes:
        _passes[key] = _compile(type(loss).__name__, key)
    return _passes[key]


def _obstacle(loss: DenseClsLoss, x: Tensor) -> str | None:
    if loss.fused is False:
        return 'fused=False'
    switch = os.environ.get(SWITCH, '1')
    if switch not in ('0', '1'):
        wrong(SWITCH, "'0' or '1' in the environment", switch)
    if switch == '0':
        return f'{SWITCH}=0 is set'
    if loss.fused is True:
        return None
    if x.numel() < WORTH_COMPILING:
        return f'a call of {x.numel()} entries is not worth compiling ({WORTH_COMPILING} is)'
    return None


def _compile(name: str, key: Any) -> Pass:
    """A compiled pass of its own: torch bounds the number of graphs of one function."""
    code = _value_and_gradient.__code__.replace(co_name=f'{name}_pass')
    function = types.FunctionType(code, _value_and_gradient.__globals__)
    compiled: Pass | None = None
    works = False

    def run(
        loss: DenseClsLoss, x: Tensor, checked: CheckedTarget, weight: Tensor | None, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        nonlocal compiled, works
        start = time.perf_counter()
        row_zeros = x.new_zeros(len(x), dtype=computed_in(x))
        rows = [_any_number_of_rows(part) for part in (x, *checked, weight, row_zeros)]
        arguments = loss, rows[0], CheckedTarget(*rows[1:4]), rows[4], scale, rows[5]
        try:
            try:
                if compiled is None:
                    compiled = torch.compile(function, fullgraph=True, options=TRUSTING)
                result = elementary.with_known_slopes(compiled, *arguments)
            except Exception as error:
                if works or isinstance(error, torch.OutOfMemoryError):
                    raise
                _forget_vector_instructions()
                compiled = torch.compile(function, fullgraph=True)
                result = elementary.with_known_slopes(compiled, *arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if loss.fused is True:
                raise RuntimeError(
                    f'fused=True of {name} needs a compiler that works with torch.compile. Set '
                    f"fused='auto' or {SWITCH}=0 to do without."
                ) from error
            first_line = next(iter(str(error).splitlines()), '')
            _failures[key] = f'torch.compile failed with {type(error).__name__}: {first_line}'
            _tell(loss, f'eager, because {_failures[key]}', logging.WARNING)
            return _blockwise(loss, x, checked, weight, scale)
        if not works:
            seconds = time.perf_counter() - start
            _tell(loss, f'value and gradient in one pass, compiled in {seconds:.1f} s')
            works = True
        return result

    return run


def _forget_vector_instructions() -> None:
    """Lets torch find out what the compiler can do, after :data:`TRUSTING` did not work."""
    from torch._inductor.cpu_vec_isa import valid_vec_isa_list

    valid_vec_isa_list.cache_clear()


def _any_number_of_rows(part: Tensor | None) -> Tensor | None:
    if part is None:
        return None
    part = part.detach()
    torch._dynamo.mark_dynamic(part, 0)
    return part


def _settings(loss: nn.Module) -> tuple[Any, ...]:
    """What makes one pass of a loss different from another."""
    own = [
        (name, value)
        for name, value in sorted(vars(loss).items())
        if name[0] != '_'
        and name not in _NO_PART_OF_THE_PASS
        and isinstance(value, (bool, int, float, str, type(None)))
    ]
    inner = [_settings(module) for module in loss.children()]
    return (type(loss), *own, *sorted(name for name, _ in loss.named_buffers()), *inner)


def _tell(loss: DenseClsLoss, message: str, level: int = logging.INFO) -> None:
    name = type(loss).__name__
    subject = (name, level, message.split(',')[0])
    if subject not in _told:
        _told.add(subject)
        print_log(f'{name}: {message}.', logger='current', level=level)
