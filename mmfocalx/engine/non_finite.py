"""Stop, or leave a batch out, before a loss that is NaN or infinite reaches the parameters."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmdet.engine.hooks import CheckInvalidLossHook
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from torch import Tensor, nn

from mmfocalx.errors import check_choice, check_integer, wrong
from mmfocalx.files import whole
from mmfocalx.losses import DenseClsLoss


class NonFiniteLossError(ArithmeticError):
    """A loss was NaN or infinite; the message says which, where, and what it was computed from."""


class Inputs(NamedTuple):
    """The predictions that a classification loss got in one call.

    Attributes:
        loss: Name of the module in the model.
        call: Its number in the iteration, from 0; a head that calls its loss for each level does
            so in their order.
        low: Smallest finite value, NaN if there is none.
        high: Largest finite value, NaN if there is none.
        non_finite: Share of values that are NaN or infinite, in [0, 1].
    """

    loss: str
    call: int
    low: float
    high: float
    non_finite: float


@HOOKS.register_module()
class NonFiniteGuardHook(CheckInvalidLossHook):
    """mmdet's check of the loss, made before the step, so that no parameter takes the fault.

    The total loss of an iteration is looked at after forward and before backward. If it is NaN or
    infinite on any rank, all ranks do the same: they name the losses at fault with their level,
    the iteration, and for each call of a classification loss the smallest and largest finite
    prediction and the share of others; then they stop or leave the batch out.

    Parameters, the state of the optimizer and the buffers of the model (batch norm's running
    statistics, losses with state) are then what they were before the iteration. With
    ``accumulative_counts`` above 1 the other batches of that step are left out, too. Schedulers
    go on.

    The state goes into ``WORK_DIR/non_finite/iter_N.pth``, all of it or nothing: ``model`` and
    ``optimizer`` as they were before the iteration, the ``batch`` of each rank (the metainfo of
    its samples) and the ``report`` of each rank. ``torch.load`` reads it with ``weights_only``.

    A look waits for the device and copies the buffers, and with several ranks takes an all-reduce
    of 4 bytes. A gradient that is not finite, of a loss that is, shows in the next iteration only.

    Args:
        interval: Number of iterations from one look to the next; 1 with ``action='skip'``.
        action: 'stop' raises :class:`NonFiniteLossError`, 'skip' leaves the batch out.
        max_skipped: With 'skip', how many iterations in a row are left out before it stops.
        max_states: How many states are saved in one training, >= 0.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    def __init__(
        self, interval: int = 1, action: str = 'stop', max_skipped: int = 10, max_states: int = 3
    ) -> None:
        super().__init__(check_integer('interval', interval, low=1))
        check_choice('action', action, ('stop', 'skip'))
        self.action = action
        if action == 'skip' and interval != 1:
            wrong('interval', "1 with action='skip'", interval)
        self.max_skipped = check_integer('max_skipped', max_skipped, low=1)
        self.max_states = check_integer('max_states', max_states, low=0)
        self.skipped_in_a_row = 0
        self._watch: _Watch | None = None

    def before_train(self, runner: Any) -> None:
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            kind = type(runner.optim_wrapper).__name__
            wrong('optim_wrapper', 'a single one for NonFiniteGuardHook', kind, TypeError)
        self.after_train(runner)
        self._watch = _Watch(runner, self)

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        if self._watch and self.every_n_train_iters(runner, self.interval):
            self._watch.start(data_batch)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: mmdet looks here, after the step."""

    def after_train(self, runner: Any) -> None:
        if self._watch:
            self._watch.end()
        self._watch = None


class _Watch:
    """What a hook puts around one training: hooks of modules, and a look before each update."""

    def __init__(self, runner: Any, guard: NonFiniteGuardHook) -> None:
        self.runner, self.guard = runner, guard
        wrapped = runner.model
        self.model: nn.Module = wrapped.module if is_model_wrapper(wrapped) else wrapped
        self.optim_wrapper = runner.optim_wrapper
        self.update_params = self.optim_wrapper.update_params
        self.optim_wrapper.update_params = self.look_and_update
        self.states_saved = 0
        self.leave_window_out = False
        self.looking = False
        self.clear()
        self.handles = [self.model.register_forward_hook(self.keep_losses)]
        for name, module in self.model.named_modules():
            if isinstance(module, DenseClsLoss) or name.rpartition('.')[2] == 'loss_cls':
                self.handles.append(
                    module.register_forward_pre_hook(self.keeper_of(name), with_kwargs=True)
                )

    def clear(self) -> None:
        self.losses: dict[str, Any] = {}
        self.inputs: list[tuple[str, Tensor]] = []
        self.batch: dict[str, Any] | None = None
        self.buffers: list[Tensor] = []

    def end(self) -> None:
        vars(self.optim_wrapper).pop('update_params', None)  # the class's own shows again
        for handle in self.handles:
            handle.remove()

    def start(self, batch: dict[str, Any] | None) -> None:
        self.looking, self.batch = True, batch
        self.buffers = [buffer.clone() for buffer in self.model.buffers()]

    def keep_losses(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.looking and isinstance(output, Mapping):
            self.losses = dict(output)

    def keeper_of(self, name: str) -> Any:
        def keep(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            pred = args[0] if args else kwargs.get('pred', kwargs.get('cls_score'))
            if self.looking and isinstance(pred, Tensor):
                self.inputs.append((name, pred.detach()))

        return keep

    def look_and_update(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        looked, self.looking = self.looking, False
        fault = looked and self.is_at_fault(loss)
        if fault:
            self.undo()
            self.report(loss)
        self.clear()
        if fault or self.leave_window_out:
            self.leave_out()
        else:
            self.guard.skipped_in_a_row = 0
            self.update_params(loss, *args, **kwargs)

    def is_at_fault(self, loss: Tensor) -> bool:
        """Whether the loss of any rank is."""
        fault = (~loss.detach().isfinite().all()).float()
        all_reduce(fault, 'max')
        return bool(fault)

    @torch.no_grad()
    def undo(self) -> None:
        """Take back what forward, and the batches before it in the same step, changed."""
        for buffer, before in zip(self.model.buffers(), self.buffers, strict=True):
            buffer.copy_(before)
        self.optim_wrapper.zero_grad()

    def leave_out(self) -> None:
        """Nothing but the count of iterations changes, until the step is over."""
        self.optim_wrapper._inner_count += 1  # as backward of every wrapper has to, says MMEngine
        self.leave_window_out = not self.optim_wrapper.should_update()

    def report(self, loss: Tensor) -> None:
        """Log and save what is known; raise if the training is to stop."""
        guard, iteration = self.guard, self.runner.iter + 1
        losses = _at_fault(self.losses) or _at_fault({'loss': loss})
        inputs = [tuple(one) for one in self.statistics()]
        reports = all_gather_object({'losses': losses, 'inputs': inputs})
        batches = all_gather_object(_metainfo(self.batch))
        guard.skipped_in_a_row += 1
        stops = guard.action == 'stop' or guard.skipped_in_a_row > guard.max_skipped
        text = _text(iteration, reports)
        if self.states_saved < guard.max_states:
            self.states_saved += 1
            text += '\n' + self.save(iteration, reports, batches)
        if stops and guard.action == 'skip':
            text += f'\n{guard.max_skipped} iterations in a row were left out: the training stops.'
        if stops:
            self.end()
            raise NonFiniteLossError(text)
        print_log(f'{text}\nThe batch is left out.', 'current', logging.WARNING)

    def statistics(self) -> list[Inputs]:
        calls: dict[str, int] = {}
        found = []
        for name, pred in self.inputs:
            number = calls[name] = calls.get(name, -1) + 1
            finite = pred[pred.isfinite()].float()
            low, high = (v.item() for v in finite.aminmax()) if len(finite) else (math.nan,) * 2
            share = 1 - finite.numel() / max(pred.numel(), 1)
            found.append(Inputs(name, number, low, high, share))
        return found

    def save(self, iteration: int, reports: list[Any], batches: list[Any]) -> str:
        """Save the state, on the main process; a sentence that says where it is, or why not."""
        path = Path(self.runner.work_dir, 'non_finite', f'iter_{iteration}.pth')
        state = {
            'iteration': iteration,
            'model': self.model.state_dict(),
            'optimizer': self.optim_wrapper.state_dict(),
            'report': reports,
            'batch': batches,
        }
        if is_main_process():
            try:
                with whole(path, 'wb') as file:
                    torch.save(state, file)
            except (OSError, RuntimeError) as error:  # a full disk is no reason to stop
                return f'The state could not be saved: {error}'
        return f'The state is in {path}.'


def _value(loss: Tensor) -> str:
    values = loss.detach().flatten()
    return f'{values[~values.isfinite()][0].item()}'


def _at_fault(losses: Mapping[str, Any]) -> list[str]:
    """The losses of a model that are not finite, with the number of the level where it has one."""
    found = []
    for name, value in losses.items():
        if 'loss' not in name:  # it is logged, but no part of the sum
            continue
        levels = value if isinstance(value, (list, tuple)) else [value]
        for number, level in enumerate(levels):
            if isinstance(level, Tensor) and not level.detach().isfinite().all():
                where = f' of level {number}' if len(levels) > 1 else ''
                found.append(f'{name}{where} is {_value(level)}')
    return found


def _text(iteration: int, reports: Sequence[dict[str, Any]]) -> str:
    lines = [f'Iteration {iteration}: the loss is not finite.']
    for rank, report in enumerate(reports):
        on = f' on rank {rank}' if len(reports) > 1 else ''
        lines += [f'  {fault}{on}' for fault in report['losses']]
        for name, call, low, high, share in report['inputs']:
            lines.append(
                f'  predictions in call {call} of {name}{on}: {low:.4g} to {high:.4g}, '
                f'{share:.2%} not finite'
            )
    return '\n'.join(lines)


def _metainfo(batch: Any) -> list[Any]:
    """The metainfo of each sample of a batch, as types that any reader of checkpoints knows."""
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    return [_plain(dict(getattr(sample, 'metainfo', {}))) for sample in samples]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, Tensor)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral):  # NumPy's, too
        return int(value)
    return float(value) if isinstance(value, Real) else repr(value)
