"""The progress bar of a sweep, and its lines on what became of trials."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState

from mmfocalx.reporting.console import progress_bar
from mmfocalx.reporting.wording import percent
from mmfocalx.sweep.slots import Slot
from mmfocalx.sweep.worker import Plan


def shown(value: Any) -> str:
    """A value of a parameter, in four digits at most."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def setting(slot: Slot) -> str:
    """The values of a trial in words."""
    return ', '.join(f'{name} {shown(value)}' for name, value in slot.last.params.items())


def reached(slot: Slot, digits: int = 1) -> str:
    """The AP that a trial came to, in percent."""
    return percent(slot.last.value or 0.0, digits)


def best_of(slots: Sequence[Slot]) -> Slot | None:
    """The trial with the largest value, of those that came to their end; the first of several."""
    complete = [slot for slot in slots if slot.last.state == TrialState.COMPLETE]
    return max(complete, key=lambda slot: slot.last.value or 0.0, default=None)


def describe(slot: Slot, metric: str) -> str:
    """One line on what became of a trial."""
    about = f'trial {slot.index} ({setting(slot)})'
    if slot.reason:
        return f'FAILED {about}: {slot.reason}'
    if slot.last.state == TrialState.PRUNED:
        return f'pruned {about}: mAP {reached(slot)} after {slot.last.last_step}'
    return f'done   {about}: {metric} {reached(slot)}'


class Progress:
    """A bar over all trials of the study, whoever carries them out.

    Args:
        slots: Those that have been there before.
        plan: What all trials have in common.
    """

    def __init__(self, slots: Sequence[Slot], plan: Plan) -> None:
        self._plan = plan
        self._begun: set[int] = set()
        done = sum(slot.finished for slot in slots)
        self._bar = progress_bar(plan.trials, done)

    def show(self, slots: Sequence[Slot], index: int | None, share: float) -> None:
        """Show the slots, and how far one trial is; a file gets a line for each that begins."""
        if index is not None and index not in self._begun and not sys.stdout.isatty():
            log = self._plan.run(index, self._plan.seeds[0], {}).work_dir / 'train.log'
            print(f'begun  trial {index} (log: {log})')
            self._begun.add(index)
        done = sum(slot.finished for slot in slots)
        self._bar.n = min(self._plan.trials, done + share)
        parts = [f'{done}/{self._plan.trials} trials']
        if (best := best_of(slots)) is not None:
            parts.append(f'best {self._plan.metric} {reached(best)} (trial {best.index})')
        if index is None:
            parts.append('waiting for the last trials of other workers')
        else:
            parts.append(f'trial {index} {share:.0%}')
        self._bar.set_postfix_str('; '.join(parts))

    def line(self, slot: Slot) -> None:
        """Write a line on a trial that has ended."""
        self._bar.write(describe(slot, self._plan.metric), file=sys.stdout)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
