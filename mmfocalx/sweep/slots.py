"""Which trials of a study count: each of the K asked for once, whatever workers were killed.

The trials of a study are numbered by its storage, however many workers draw them. From these
numbers every worker finds the same slots: a trial fills the next slot, unless it is the retry of
another, whose slot it shares. Where two workers retry the same trial at once, the smaller number
counts; what was drawn beyond K waits for a larger K.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

RETRY = getattr(optuna.storages, 'RetryHeartbeatStaleTrialCallback', None) or (
    optuna.storages.RetryFailedTrialCallback
)
"""Its name from Optuna 4.9 on, and before."""
ALREADY_OVER: type[Exception] = getattr(optuna.exceptions, 'UpdateFinishedTrialError', RuntimeError)
"""What a storage raises where a trial has ended already; early versions 4 have no name for it."""
REASON, WORKER = 'reason', 'worker'
"""User attributes of a trial: why it failed, and who carries it out."""


@dataclass(eq=False)
class Slot:
    """One of the K trials that were asked for, with its attempts.

    Attributes:
        index: Its place, from 0 on, which never changes.
        attempts: A trial, and those that continued it where their workers were lost.
    """

    index: int
    attempts: list[FrozenTrial]

    @property
    def last(self) -> FrozenTrial:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def reason(self) -> str:
        """Why it failed, where a retry would not help."""
        failed = self.last.state == TrialState.FAIL
        return str(self.last.user_attrs.get(REASON, '')) if failed else ''

    @property
    def finished(self) -> bool:
        """Whether it has its final value, or a reason why there is none."""
        return self.last.state in (TrialState.COMPLETE, TrialState.PRUNED) or bool(self.reason)

    @property
    def lost(self) -> bool:
        """Whether its worker is gone, and nobody continues it yet."""
        return self.last.state == TrialState.FAIL and not self.reason


def slots_of(trials: Iterable[FrozenTrial]) -> list[Slot]:
    """The slots that the trials of a study fill."""
    slots: list[Slot] = []
    by_number: dict[int, Slot] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        before = RETRY.retry_history(trial)
        if not before:
            by_number[trial.number] = Slot(len(slots), [trial])
            slots.append(by_number[trial.number])
        elif (slot := by_number.get(before[0])) and slot.last.number == before[-1]:
            slot.attempts.append(trial)
    return slots


def slot_of(number: int, slots: Iterable[Slot]) -> Slot | None:
    """The slot in which a trial counts; None if it counts in none."""
    return next((slot for slot in slots if slot.last.number == number), None)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a failed trial again, with the values drawn for it."""
    trial = copy.deepcopy(trial)
    trial.user_attrs = {}
    RETRY()(study, trial)
