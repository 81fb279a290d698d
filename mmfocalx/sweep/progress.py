"""The progress bar of a sweep, and its lines on what became of trials."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from optuna.trial import TrialState
from tqdm import tqdm  # type: ignore[import-untyped]

from mmfocalx.sweep.slots import Slot

BAR = '{percentage:3.0f}%|{bar}|{postfix} [{elapsed}, about {remaining} left]'


def shown(value: Any) -> str:
    """A value of a parameter, in four digits at most."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def setting(slot: Slot) -> str:
    """The values of a trial in words."""
    return ', '.join(f'{name} {shown(value)}' for name, value in slot.last.params.items())


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
        return f'pruned {about}: mAP {slot.last.value or 0:.3f} after {slot.last.last_step}'
    return f'done   {about}: {metric} {slot.last.value:.3f}'


class Progress:
    """A bar over all trials of the study, whoever carries them out.

    Args:
        slots: Those that have been there before.
        trials: Number of all.
        metric: Kind of AP that is shown.
    """

    def __init__(self, slots: Sequence[Slot], trials: int, metric: str) -> None:
        self._trials, self._metric = trials, metric
        done = sum(slot.finished for slot in slots)
        self._bar = tqdm(total=trials, initial=done, disable=None, smoothing=0, bar_format=BAR)

    def show(self, slots: Sequence[Slot], index: int | None, share: float) -> None:
        """Show the slots, and how far one trial is."""
        done = sum(slot.finished for slot in slots)
        self._bar.n = min(self._trials, done + share)
        parts = [f'{done}/{self._trials} trials']
        if (best := best_of(slots)) is not None:
            parts.append(f'best {self._metric} {best.last.value:.3f} (trial {best.index})')
        if index is None:
            parts.append('waiting for the last trials of other workers')
        else:
            parts.append(f'trial {index} {share:.0%}')
        self._bar.set_postfix_str('; '.join(parts))

    def line(self, slot: Slot) -> None:
        """Write a line on a trial that has ended."""
        self._bar.write(describe(slot, self._metric), file=sys.stdout)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
