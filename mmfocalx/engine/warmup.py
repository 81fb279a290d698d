"""A learning rate that no iteration trains with is named before training starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim.scheduler import ConstantParamScheduler, LinearParamScheduler
from mmengine.registry import HOOKS

from mmfocalx.errors import wrong


@HOOKS.register_module()
class WarmupHook(Hook):
    """Looks at the schedules of a training that raise its learning rate, or its momentum.

    MMEngine's linear and constant schedules keep their first factor for ever where they have one
    step only: they change the value after the first step, and end with it. A schedule that is
    longer than the training never comes to its end either: that is a warning in the log.

    Raises:
        ValueError: for a schedule of one step, naming it, what it does and what to write.
    """

    def before_train(self, runner: Any) -> None:
        for name, scheduler in _warmups(runner.param_schedulers):
            first, last = _factors(scheduler)
            kind = f'{type(scheduler).__name__} of {name}'
            start, end = scheduler.begin, scheduler.end
            if end - start == 1:
                wrong(
                    f'end of {kind}',
                    f'at least {start + 2}, two steps after its begin',
                    end,
                    hint=f'In MMEngine the value stays at {first:g} of the one that is set, in all '
                    'of the training, after a schedule of one step.',
                )
            steps = runner.max_epochs if scheduler.by_epoch else runner.max_iters
            if start < steps < end:
                reached = first + (last - first) * (steps - 1 - start) / (end - 1 - start)
                share = first if isinstance(scheduler, ConstantParamScheduler) else reached
                runner.logger.warning(
                    f'{kind} ends at {"epoch" if scheduler.by_epoch else "iteration"} {end}, but '
                    f'the training has {steps}: it comes to {share:.2g} of the value that is set.'
                )


def _warmups(schedulers: Any) -> Iterator[tuple[str, Any]]:
    """The schedules that begin below the value that is set, with their place in the config."""
    groups: Mapping[str, Iterable[Any]] = (
        {f'param_scheduler.{key}': own for key, own in schedulers.items()}
        if isinstance(schedulers, Mapping)
        else {'param_scheduler': schedulers or ()}
    )
    for name, group in groups.items():
        for scheduler in group:
            if isinstance(scheduler, (LinearParamScheduler, ConstantParamScheduler)):
                first, last = _factors(scheduler)
                if first < last:
                    yield name, scheduler


def _factors(scheduler: Any) -> tuple[float, float]:
    if isinstance(scheduler, ConstantParamScheduler):
        return scheduler.factor, 1.0
    return scheduler.start_factor, scheduler.end_factor
