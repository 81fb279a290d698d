"""What a sweep has found, computed once: its writers read it and compute nothing."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from mmfocalx.files import write_json
from mmfocalx.reporting.gaps import Gaps
from mmfocalx.sweep.best import write_inheriting_config
from mmfocalx.sweep.progress import best_of, reached, setting
from mmfocalx.sweep.slots import Slot
from mmfocalx.sweep.study import MADE_OF, SETTINGS
from mmfocalx.sweep.worker import RESULTS, Plan

FEW_TRIALS = 30
"""Below so many, importance is a hint."""
SEEDS_TO_COMPARE = 3
STATES = {'COMPLETE': 'complete', 'PRUNED': 'pruned', 'FAIL': 'failed'}


@dataclass
class Findings:
    """Everything that a report says.

    Attributes:
        study: The study.
        plan: What its trials have in common.
        slots: The trials that were asked for, in order.
        storage: URL of the study.
        command: The command line.
        gaps: The parts of the report that are missing.
    """

    study: optuna.Study
    plan: Plan
    slots: list[Slot]
    storage: str
    command: str
    gaps: Gaps = field(default_factory=Gaps)

    @cached_property
    def best(self) -> Slot | None:
        """The trial with the largest value."""
        return best_of(self.slots)

    @cached_property
    def default(self) -> Slot | None:
        """The trial of the config as it is, if it came to its end."""
        values = self.plan.space.default()
        same = [s for s in self.with_state('complete') if s.last.params == values]
        return same[0] if same else None

    @property
    def gain(self) -> float:
        """By how much the best is better than the config as it is; NaN where that is unknown."""
        if self.best is None or self.default is None:
            return math.nan
        return (self.best.last.value or 0.0) - (self.default.last.value or 0.0)

    @property
    def fruitless(self) -> bool:
        """Whether no trial is better than the config as it is, which is among them."""
        return self.default is not None and self.gain <= 0

    @property
    def compare_command(self) -> str:
        """What tells whether the best is better, on seeds that it was not chosen by."""
        first = max(self.plan.seeds) + 1
        seeds = map(str, range(first, first + SEEDS_TO_COMPARE))
        out = self.plan.out
        best = f'{self.plan.config.stem}-best={out / "best.py"}'
        words = ['python', 'tools/compare.py', str(self.plan.config), best]
        words += ['--seeds', *seeds, '--out', str(out / 'compared')]
        searched = self.plan.space.options(self.best.last.params) if self.best else {}
        options = [
            f'{key}={value}'
            for key, value in self.plan.options.items()
            if not any(f'{key}.'.startswith(f'{own}.') for own in searched)
        ]
        if options:
            words += ['--cfg-options', *options]
        return shlex.join(words)

    @cached_property
    def importance(self) -> dict[str, float]:
        """The share of each parameter, the largest first; empty where there is nothing to learn."""
        values = {slot.last.value for slot in self.with_state('complete')}
        if len(values) < 2 or len(self.plan.space.parameters) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ExperimentalWarning)
            return get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())

    def with_state(self, state: str) -> list[Slot]:
        """The trials that are complete, pruned, failed or open."""
        return [slot for slot in self.slots if state_of(slot) == state]

    @property
    def open(self) -> int:
        """Number of trials that have not ended."""
        return self.plan.trials - sum(slot.finished for slot in self.slots)

    @property
    def settings(self) -> dict[str, str]:
        """What the command line said of the search."""
        return dict(self.study.user_attrs[SETTINGS])

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that the trials were trained with."""
        found: dict[str, str] = {'optuna': optuna.__version__}
        for slot in self.slots:
            for result in results_of(slot):
                found |= result['versions']
        return found

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know, in sentences."""
        notes = []
        if self.fruitless:
            notes.append(
                'No trial is better than the config as it is. More trials or other ranges may find '
                'something.'
            )
        elif self.best is not None:
            notes.append(
                f'The best of {self.plan.trials} was chosen on the images that its value is of, so '
                'that its value is a little too high. Compare it with the config on other seeds '
                'and on the test split.'
            )
        if self.best is not None:
            notes += [
                f'The best {p.name} is near the {edge} end of its range ({p}): a wider range may '
                'hold a better one.'
                for p in self.plan.space.parameters
                if (edge := p.edge(self.best.last.params.get(p.name)))
            ]
        if len(self.plan.seeds) == 1:
            notes.append(
                'One seed: differences below the noise of seeds say nothing. Give --seeds 0 1 2 to '
                'average over three.'
            )
        if self.best is not None and self.default is None:
            notes.append(
                'The config as it is was not among the trials that came to their end, so that the '
                'gain is unknown.'
            )
        if self.importance and len(self.with_state('complete')) < FEW_TRIALS:
            notes.append(f'Importance from fewer than {FEW_TRIALS} complete trials is a hint only.')
        again = sum(len(slot.attempts) > 1 for slot in self.slots)
        if again:
            plural = 's' if again > 1 else ''
            notes.append(f'{again} trial{plural} lost a worker and went on with another.')
        return notes

    def write_best(self, path: Path) -> None:
        """Write the best setting as a config.

        Raises:
            ValueError: If a written config cannot express it.
        """
        if self.best is None:
            return
        run = self.plan.run(self.best.index, self.plan.seeds[0], self.best.last.params)
        seeds = ', '.join(map(str, self.plan.seeds))
        title = (
            f'{self.plan.metric} {reached(self.best, 2)} on val, seed {seeds}: trial '
            f'{self.best.index} of the study {self.study.study_name}.\n'
            f'{setting(self.best)}'
        )
        if self.plan.options:
            title += (
                f'\nAll trials were trained with {self.plan.given}: without the lines below '
                'that say so,\nthis config trains as the one that it inherits from.'
            )
        write_inheriting_config(run.settings, self.plan.config, path, title)

    def write_results(self, path: Path) -> None:
        """Write all numbers for programs."""
        numbers = {
            'study': self.study.study_name,
            'storage': self.storage,
            'config': str(self.plan.config),
            'command': self.command,
            'settings': self.settings,
            'made_of': self.study.user_attrs[MADE_OF],
            'metric': self.plan.metric,
            'planned': self.plan.trials,
            'best': None if self.best is None else self.best.index,
            'default': None if self.default is None else self.default.index,
            'importance': self.importance,
            'trials': [self._trial(slot) for slot in self.slots],
            'notes': self.notes,
            'missing': [gap._asdict() for gap in self.gaps],
        }
        write_json(path, numbers)

    def _trial(self, slot: Slot) -> dict[str, Any]:
        return {
            'number': slot.index,
            'state': state_of(slot),
            'value': slot.last.value,
            'values': slot.last.params,
            'options': {
                key: str(value) for key, value in self.plan.space.options(slot.last.params).items()
            },
            'attempts': [attempt.number for attempt in slot.attempts],
            'reason': slot.reason,
            'while_training': slot.last.intermediate_values,
            'results': results_of(slot),
        }


def state_of(slot: Slot) -> str:
    """How a trial ended: complete, pruned or failed; open if it has not."""
    return STATES[slot.last.state.name] if slot.finished else 'open'


def results_of(slot: Slot) -> Sequence[dict[str, Any]]:
    """What each seed of a trial came to."""
    found: Sequence[dict[str, Any]] = slot.last.user_attrs.get(RESULTS, ())
    return found if slot.last.state == TrialState.COMPLETE else ()
