"""The pass over the logits, compiled: one loop that reads each logit once."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from . import elementary
from .blockwise import blockwise, computed_in, gradient_type
from .checks import wrong
from .targets import CheckedTarget

if TYPE_CHECKING:
    from .base import DenseClsLoss

SWITCH = 'MMFOCALX_FUSED'
WORTH_COMPILING = 2**20
"""Entries of one call from which 'auto' compiles: below, a step gains about as much as it costs."""
TRUSTING: dict[str, Any] = {'cpp.vec_isa_ok': True, 'cpp_cache_precompile_headers': False}
"""Takes the compiler to know the vector instructions of this CPU, instead of compiling and loading
a trial of each, and compiles a loop with its headers, instead of checking in each process whether
they still are what was compiled before: most of the time that a first pass takes."""
PRECISE: dict[str, Any] = {'cpp.enable_floating_point_contract_flag': 'fast'}
"""Rounds a product and a sum once, where the CPU can: faster, and closer to the exact result."""

Pass = Callable[..., tuple[Tensor, Tensor]]

_NO_PART_OF_THE_PASS = {'training', 'fused', 'reduction', 'loss_weight', 'ohem_ratio'}
_passes: dict[Any, Pass] = {}
_failures: dict[Any, str] = {}
_told: set[tuple[str, int, str]] = set()
_choosing = threading.RLock()


def compiled_pass(
    loss: DenseClsLoss, x: Tensor, checked: CheckedTarget, weight: Tensor | None
) -> Pass | None:
    """The compiled pass, or None, telling once why, where the loss runs eager."""
    obstacle = _obstacle(loss, x)
    if obstacle:
        _tell(loss, f'eager, because {obstacle}')
        return None
    present = [None if part is None else part.ndim for part in (*checked.by_row, weight)]
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
        parts = (x, *checked.by_row, weight, row_zeros)
        rows = [_any_number_of_rows(part) for part in parts]
        target = CheckedTarget(rows[1], rows[2], rows[3], checked.classes)
        arguments = loss, rows[0], target, rows[4], scale, rows[5]
        try:
            try:
                if compiled is None:
                    compiled = torch.compile(function, fullgraph=True, options=PRECISE | TRUSTING)
                with nullcontext() if works else _nothing_in_vain():
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
            return blockwise(loss, x, checked, weight, scale)
        if not works:
            seconds = time.perf_counter() - start
            _tell(loss, f'value and gradient in one pass, compiled in {seconds:.1f} s')
            works = True
        return result

    return run


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
        loss: see :func:`~mmfocalx.losses.fused.scaled_sum`, as for the others.
        x: (N, C) predictions.
        checked: their targets.
        weight: (N, 1), (N, C) or None.
        scale: 0-d factor of the sum.
        row_zeros: (N,) zeros that the compiler does not know to be zero. They keep the loops over
            rows and over classes apart: flattened to one loop, what the formula uses twice would
            not fuse with the row sums and go through memory.
    """
    returned_in = gradient_type(x)

    def total(x: Tensor) -> Tensor:
        entries = loss.entries(x, checked, weight)
        # Row by row, so that the sum and the gradient share one loop.
        rows = entries if entries.ndim == 1 else entries.sum(dim=1)
        return (rows * (scale + row_zeros)).sum()

    x = x.to(computed_in(x)) + row_zeros[:, None]
    gradient, value = torch.func.grad_and_value(total)(x)
    return value, gradient.to(returned_in)


@contextmanager
def _nothing_in_vain() -> Iterator[None]:
    """Leaves out what a first call would spend a second on for nothing.

    The compiler makes a million objects that stay, and each garbage collection walks them all.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _without_trials():
            yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _without_trials() -> Iterator[None]:
    """Within, torch tries out no vector instructions, as it would whatever :data:`TRUSTING` says.

    VNNI and AMX are left out, as no pass uses them, and those on bfloat16 are taken for granted.
    What is compiled elsewhere finds all of them as before.
    """
    isa = _vector_instructions()
    if (
        isa is None
        or not hasattr(isa.VecISA, 'check_build')
        or isa.valid_vec_isa_list.cache_info().currsize
    ):
        yield
        return
    with _choosing:
        everything, try_out = isa.supported_vec_isa_list, isa.VecISA.check_build
        known = [(one, dict(vars(one))) for one in everything]
        left_out = getattr(isa, 'VecAVX512VNNI', ())
        isa.supported_vec_isa_list = [one for one in everything if not isinstance(one, left_out)]
        isa.VecISA.check_build = lambda self, code: True
        try:
            yield
        finally:
            isa.supported_vec_isa_list, isa.VecISA.check_build = everything, try_out
            for one, before in known:
                vars(one).clear()
                vars(one).update(before)
            _forget_vector_instructions()


def _forget_vector_instructions() -> None:
    """Lets torch find out anew what the compiler can do."""
    isa = _vector_instructions()
    if isa is None:
        return
    isa.valid_vec_isa_list.cache_clear()
    for kind in {kind for one in isa.supported_vec_isa_list for kind in type(one).mro()}:
        forget = getattr(getattr(kind, '__bool__', None), 'cache_clear', None)
        if forget is not None:
            forget()


def _vector_instructions() -> Any:
    """Torch's module that knows them, if this version has one."""
    try:
        from torch._inductor import cpu_vec_isa
    except ImportError:
        return None
    return cpu_vec_isa


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
