"""Samplers whose draws depend on the slot of a trial, not on the worker or on its past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from mmfocalx.sweep.slots import slot_of, slots_of

SAMPLERS = ('tpe', 'random', 'grid')
STARTUP_TRIALS = 6
"""Trials drawn at random before TPE has something to learn from."""


class BySlot(BaseSampler):
    """A sampler made anew for each trial, seeded by the slot that the trial fills.

    Workers that share a seed then never draw alike, and a sweep that was killed draws what it would
    have drawn. The first trial, where its values are given, is the config as it is.

    Args:
        make: Makes the sampler of a seed.
        seed: Of the sweep.
        first: Values of the first trial; None to draw them, too.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, first: dict[str, Any] | None
    ) -> None:
        self._make, self._seed = make, seed
        self._first = Points([first]) if first is not None else None
        self._inner: BaseSampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        index = _index(study, trial)
        if index == 0 and self._first is not None:
            self._inner = self._first
        else:
            numbers = np.random.SeedSequence([self._seed, index])
            self._inner = self._make(int(numbers.generate_state(1)[0]))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._inner.after_trial(study, trial, state, values)


class Points(BaseSampler):
    """Given points, each by the slot of its index: Optuna's grid lets two workers draw the same.

    Args:
        points: Values by parameter.
    """

    def __init__(self, points: Sequence[dict[str, Any]]) -> None:
        self._points = points

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._points[_index(study, trial) % len(self._points)][param_name]


def _index(study: Study, trial: FrozenTrial) -> int:
    """The index of a trial's slot; that of a trial which counts in none does not matter."""
    slot = slot_of(trial.number, slots_of(study.get_trials(deepcopy=False)))
    return trial.number if slot is None else slot.index


def sampler(
    name: str, seed: int, grid: Sequence[dict[str, Any]], first: dict[str, Any] | None
) -> BaseSampler:
    """The sampler of a sweep.

    Args:
        name: One of :data:`SAMPLERS`.
        seed: Of the draws.
        grid: The points of a grid.
        first: Values of the first trial, except of a grid; None to draw them.
    """
    if name == 'grid':
        return Points(grid)
    if name == 'random':
        return BySlot(lambda seed: RandomSampler(seed=seed), seed, first)
    return BySlot(_tpe, seed, first)


def _tpe(seed: int) -> TPESampler:
    return TPESampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        multivariate=True,
        group=True,
        constant_liar=True,  # what other workers try at the moment is no place to try again
    )
