"""The pass over the logits, compiled: one loop, or one kernel, that reads each logit once."""

from __future__ import annotations

import logging
import time
import types
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..batch import Batch
from ..checks import switched_on
from ..precision import computed_in, gradient_type
from .elementary import FIRST_ORDER
from .summable import Summable

SWITCH = 'MMFOCALX_FUSED'
WORTH_COMPILING = {'cpu': 2**20}
"""Entries of one call from which 'auto' compiles, by device: below, a step gains about as much as
it costs."""
WORTH_COMPILING_ELSEWHERE = 2**15
OPTIONS: dict[str, dict[str, Any]] = {
    # A product and a sum round once, where the CPU can: faster, and closer to the exact result.
    # The headers are compiled with the loop, instead of being compared with those compiled before.
    'cpu': {
        'cpp.enable_floating_point_contract_flag': 'fast',
        'cpp_cache_precompile_headers': False,
    }
}

_kernels: dict[Any, Kernels] = {}
_told: set[tuple[str, str]] = set()


def kernels_for(loss: Summable, batch: Batch) -> Kernels | None:
    """The compiled functions for calls like this one; None where it is not to be compiled."""
    if loss.fused is False:
        return None
    x = batch.x
    if not switched_on(SWITCH, '1'):
        return None
    enough = WORTH_COMPILING.get(x.device.type, WORTH_COMPILING_ELSEWHERE)
    if loss.fused == 'auto' and x.numel() < enough:
        return None
    present = (None if part is None else part.ndim for part in batch.by_row)
    kind = (loss.settings(), x.shape[1], x.dtype, x.device, *present)
    found = _kernels.get(kind)
    if found is None:
        found = _kernels[kind] = Kernels(x.shape[1], x.device)
    return None if found.failed and loss.fused == 'auto' else found


class Kernels:
    """The functions of one kind of loss and batch, each compiled when it is first called.

    They return None where torch.compile fails.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.failed = False
        self._classes = torch.arange(num_classes, device=device, dtype=torch.int32)
        self._functions: dict[Any, Callable[..., Any]] = {}

    def value_and_gradient(
        self, loss: Summable, batch: Batch, scale: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """The scaled sum of the entries and its gradient by the predictions."""
        if batch.x.device.type == 'cpu':
            row_zeros = batch.x.new_zeros(len(batch.x), dtype=computed_in(batch.x))
            return self._run(_value_and_gradient, loss, batch, scale, row_zeros)
        found = self._run(_rows_and_gradient, loss, batch, scale)
        return None if found is None else (found[0].sum(), found[1])

    def statistics(self, loss: Summable, batch: Batch, gradient: Tensor) -> Tensor | None:
        """What the loss's state takes of that gradient."""
        return self._run(_statistics, loss, batch, gradient)

    def _run(
        self, function: Callable[..., Any], loss: Summable, batch: Batch, *others: Tensor
    ) -> Any:
        if batch.labels is not None:
            batch = batch._replace(classes=self._classes)
        ready = self._functions.get(function)
        if ready is not None:
            return ready(loss, batch, *others)
        start, name = time.perf_counter(), type(loss).__name__
        try:
            compiled, result = _compile(function, loss, batch, *others)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if loss.fused is True:
                raise RuntimeError(
                    f'fused=True of {name} needs a compiler that works with torch.compile. Set '
                    f"fused='auto' or {SWITCH}=0 to do without."
                ) from error
            self.failed = True
            line = next(iter(str(error).splitlines()), '')
            reason = f'torch.compile failed with {type(error).__name__}: {line}'
            _tell(name, 'failed', f'eager, because {reason}', logging.WARNING)
            return None
        self._functions[function] = compiled
        seconds = time.perf_counter() - start
        _tell(name, 'compiled', f'value and gradient in one pass, compiled in {seconds:.1f} s')
        return result


def _value_and_gradient(
    loss: Summable, batch: Batch, scale: Tensor, row_zeros: Tensor
) -> tuple[Tensor, Tensor]:
    """The whole pass of a CPU.

    ``row_zeros`` are (N,) zeros that the compiler does not know to be zero. They keep the loops
    over rows and over classes apart: flattened to one loop, what the formula uses twice would not
    fuse with the row sums and go through memory.
    """

    def total(x: Tensor) -> Tensor:
        # Row by row, so that the sum and the gradient share one loop.
        return (_row_sums(loss, batch._replace(x=x)) * (scale + row_zeros)).sum()

    x = batch.x.to(computed_in(batch.x)) + row_zeros[:, None]
    gradient, value = torch.func.grad_and_value(total)(x)
    return value, gradient.to(gradient_type(batch.x))


def _rows_and_gradient(loss: Summable, batch: Batch, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The pass of an accelerator, one kernel; a compiled sum of all rows would be a slow one."""

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = _row_sums(loss, batch._replace(x=x)) * scale
        return rows.sum(), rows

    x = batch.x.to(computed_in(batch.x))
    gradient, rows = torch.func.grad(total, has_aux=True)(x)
    return rows, gradient.to(gradient_type(batch.x))


def _row_sums(loss: Summable, batch: Batch) -> Tensor:
    entries = loss.entries(batch, FIRST_ORDER)
    return entries if entries.ndim == 1 else entries.sum(dim=1)


def _statistics(loss: Summable, batch: Batch, gradient: Tensor) -> Tensor:
    return loss.gradient_statistics(batch, gradient)


def _compile(
    function: Callable[..., Any], loss: Summable, batch: Batch, *others: Tensor
) -> tuple[Callable[..., Any], Any]:
    """A compiled function of its own, as torch bounds the graphs of one, and its first result."""
    code = function.__code__.replace(co_name=f'{type(loss).__name__}{function.__name__}')
    own = types.FunctionType(code, function.__globals__)
    options = OPTIONS.get(batch.x.device.type)
    batch = Batch._make([*map(_any_number_of_rows, batch.by_row), batch.classes, batch.dtype])
    others = tuple(_any_number_of_rows(part) if part.ndim else part for part in others)
    try:
        compiled = torch.compile(own, fullgraph=True, options=options)
        return compiled, compiled(loss, batch, *others)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a version of torch that lacks an option, or a compiler that does
        compiled = torch.compile(own, fullgraph=True)
        return compiled, compiled(loss, batch, *others)


def _any_number_of_rows(part: Any) -> Any:
    if part is not None:
        part = part.detach()
        torch._dynamo.mark_dynamic(part, 0)
    return part


def _tell(name: str, kind: str, message: str, level: int = logging.INFO) -> None:
    if (name, kind) not in _told:
        _told.add((name, kind))
        print_log(f'{name}: {message}.', logger='current', level=level)
