"""One worker of a sweep: it carries out trials until the study has all that were asked for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mmengine.config import Config
from optuna.trial import TrialState

from mmfocalx.compare.execution import execute
from mmfocalx.compare.logs import HEADLINE, training_curves
from mmfocalx.compare.resolved_config import training_length
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.sweep.slots import ALREADY_OVER, REASON, Slot, retry, slot_of, slots_of
from mmfocalx.sweep.space import Space
from mmfocalx.sweep.storage import Watch

RESULTS = 'results'
"""User attribute of a trial: what each seed came to."""
HOPELESS = 3
"""So many trials that fail, and none that does not, end a sweep."""

OnProgress = Callable[[list[Slot], int | None, float], None]


class FailedError(Exception):
    """A trial failed, and would again."""


class GivenBackError(Exception):
    """A trial is not for this worker, or not for anybody."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came while a trial was carried out."""


class HopelessError(RuntimeError):
    """Every trial fails."""


@dataclass(frozen=True)
class Plan:
    """What the trials of a sweep have in common.

    Attributes:
        config: Path of the config.
        content: What it says.
        options: Settings that override it in every trial.
        space: What is varied.
        seeds: Each trial is trained with; the first decides whether it is pruned.
        metric: Kind of AP that is to be large, among those of ``HEADLINE``.
        trials: Number of trials, of all workers together.
        out: Folder of the trials and the report.
    """

    config: Path
    content: Config
    options: dict[str, Any]
    space: Space
    seeds: tuple[int, ...]
    metric: str
    trials: int
    out: Path

    @property
    def unit(self) -> str:
        """What the length of a training is counted in."""
        return 'epoch' if self.content.train_cfg.get('max_epochs') else 'iteration'

    @property
    def given(self) -> str:
        """The options as ``--cfg-options`` takes them."""
        return ' '.join(f'{key}={value}' for key, value in self.options.items())

    def run(self, index: int, seed: int, values: dict[str, Any]) -> Run:
        """The run of a slot's values with one seed."""
        return Run(
            name=f'trial {index}',
            seed=seed,
            config=self.config,
            work_dir=self.out / 'trials' / f'{index:04d}' / f'seed{seed}',
            options=self.options | self.space.options(values),
            content=self.content,
        )


class Worker:
    """Draws trials, trains them and tells the study what they came to.

    Args:
        study: The study; others may work on it at the same time.
        plan: What the trials have in common.
        watch: Of this worker and the others.
        tools: Directory of ``train.py`` and ``test.py``.
        pause: Seconds between two looks at others that work on the last trials.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        watch: Watch,
        tools: Path,
        pause: float,
    ) -> None:
        self._study, self._plan, self._watch, self._tools = study, plan, watch, tools
        self._pause = pause
        self._on_progress: OnProgress = lambda slots, number, share: None
        self._slots: list[Slot] = []
        self._index: int | None = None
        self._faults: list[Exception] = []

    def work(self, on_progress: OnProgress, on_end: Callable[[Slot], None]) -> None:
        """Go on until every trial is finished.

        Args:
            on_progress: Called several times a second with all slots, and the index and the
                finished part, 0 to 1, of the trial that this worker carries out.
            on_end: Called with the slot of a trial that this worker has ended.

        Raises:
            HopelessError: If every trial fails.
        """
        self._on_progress = on_progress
        while True:
            self._watch.fail_lost()
            self.queue_lost()
            slots = self.slots()
            if sum(slot.finished for slot in slots) >= self._plan.trials:
                return
            failed = [slot for slot in slots if slot.finished and slot.reason]
            if len(failed) >= HOPELESS and sum(slot.finished for slot in slots) == len(failed):
                raise HopelessError(
                    f'the first {len(failed)} trials failed, the last with: {failed[-1].reason}'
                )
            waits = any(slot.last.state == TrialState.WAITING for slot in slots)
            if waits or len(slots) < self._plan.trials:
                self._one_trial(on_end)
            else:
                self._on_progress(slots, None, 0.0)
                time.sleep(self._pause)

    def slots(self) -> list[Slot]:
        """The slots that have a trial, among those asked for."""
        return slots_of(self._study.get_trials(deepcopy=False))[: self._plan.trials]

    def queue_lost(self, failed: bool = False) -> None:
        """Queue the trials again whose workers were lost.

        Args:
            failed: Queue those that failed, too.
        """
        for slot in self.slots():
            if slot.lost or (failed and slot.reason):
                retry(self._study, slot.last)

    def _one_trial(self, on_end: Callable[[Slot], None]) -> None:
        self._faults.clear()
        try:
            self._study.optimize(self._objective, n_trials=1, catch=(FailedError, GivenBackError))
        except (ValueError, ALREADY_OVER):
            if any(not isinstance(fault, ALREADY_OVER) for fault in self._faults):
                raise
            return  # this process was stopped for so long that others took it for lost
        for slot in self.slots():
            if slot.finished and slot.index == self._index:
                on_end(slot)

    def _objective(self, trial: optuna.Trial) -> float:
        self._index = None
        try:
            with self._watch.alive(trial):
                return self._carry_out(trial)
        except SystemExit as error:
            raise TerminatedError from error
        except (optuna.TrialPruned, FailedError, GivenBackError):
            raise
        except Exception as error:
            self._faults.append(error)
            raise

    def _carry_out(self, trial: optuna.Trial) -> float:
        found = slots_of(self._study.get_trials(deepcopy=False))
        slot = slot_of(trial.number, found)
        if slot is None or slot.index >= self._plan.trials:
            raise GivenBackError
        self._slots = found[: self._plan.trials]
        self._index = slot.index
        values = self._plan.space.suggest(trial)
        results = []
        for seed in self._plan.seeds:
            run = self._plan.run(slot.index, seed, values)
            outcome = self._execute(run, trial, prune=seed == self._plan.seeds[0])
            results.append(self._result(outcome, trial))
        trial.set_user_attr(RESULTS, results)
        return statistics.fmean(result['ap'][self._plan.metric] for result in results)

    def _execute(self, run: Run, trial: optuna.Trial, prune: bool) -> Outcome:
        length = training_length(run.settings)
        reported = Reported(trial, run, length) if prune else None
        done = self._plan.seeds.index(run.seed)

        def look(active: dict[Run, float]) -> None:
            share = (done + sum(active.values())) / len(self._plan.seeds)
            self._on_progress(self._slots, self._index, share)
            if reported is not None:
                reported.look()

        (outcome,) = execute([run], self._tools, on_progress=look)
        return outcome

    def _result(self, outcome: Outcome, trial: optuna.Trial) -> dict[str, Any]:
        if outcome.result is None:
            if outcome.reason.startswith('BlockingIOError'):  # its lost worker is not quite gone
                raise GivenBackError(outcome.reason)
            reason = f'seed {outcome.run.seed}: {outcome.reason}'
            trial.set_user_attr(REASON, reason)
            raise FailedError(reason)
        result = outcome.result
        ap = {kind: result['metrics'].get(key) for kind, key in HEADLINE.items()}
        if ap[self._plan.metric] is None:
            reason = f'the test of seed {outcome.run.seed} reported no {self._plan.metric}'
            trial.set_user_attr(REASON, reason)
            raise FailedError(reason)
        kept = ('seed', 'config_hash', 'identity', 'train_seconds', 'peak_rss_mb', 'versions')
        return {'ap': ap, 'folder': str(outcome.run.work_dir)} | {key: result[key] for key in kept}


class Reported:
    """Tells Optuna the mAP of a training that is under way, and ends one that is hopeless.

    Args:
        trial: The trial.
        run: Its run.
        length: Of the training; its last mAP comes too late to end it.
    """

    def __init__(self, trial: optuna.Trial, run: Run, length: int) -> None:
        self._trial, self._folder, self._length = trial, run.work_dir, length
        self._size = 0
        self._steps: set[int] = set()

    def look(self) -> None:
        """Report what is new.

        Raises:
            TrialPruned: If the pruner says so.
        """
        size = sum(path.stat().st_size for path in self._folder.glob('*/vis_data/scalars.json'))
        if size == self._size:
            return
        self._size = size
        for step, ap in training_curves(self._folder).maps.items():
            if step in self._steps:
                continue
            self._steps.add(step)
            self._trial.report(ap / 100, step)
            if step < self._length and self._trial.should_prune():
                raise optuna.TrialPruned
