"""Which trials count: rules that workers who know nothing of each other agree on."""

from __future__ import annotations

import itertools

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from mmfocalx.sweep.samplers import sampler
from mmfocalx.sweep.slots import REASON, RETRY, retry, slot_of, slots_of


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study()


def draw(study: optuna.Study, state: TrialState | None = None, reason: str = '') -> int:
    """The number of a trial, told to be over unless there is no state."""
    trial = study.ask()
    trial.suggest_float('x', 0, 1)
    if reason:
        trial.set_user_attr(REASON, reason)
    if state is not None:
        study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)
    return trial.number


def attempts(study: optuna.Study) -> list[list[int]]:
    return [[trial.number for trial in slot.attempts] for slot in slots_of(study.trials)]


def test_a_retry_shares_the_slot_and_the_values(study: optuna.Study) -> None:
    lost = draw(study, TrialState.FAIL)
    draw(study, TrialState.COMPLETE)
    assert slots_of(study.trials)[0].lost
    retry(study, study.trials[lost])
    assert attempts(study) == [[0, 2], [1]]
    again = study.ask()
    assert again.number == 2
    assert again.suggest_float('x', 0, 1) == study.trials[lost].params['x']
    assert not slots_of(study.trials)[0].finished
    study.tell(again, 3.0)
    assert [slot.last.value for slot in slots_of(study.trials)] == [3.0, 1.0]
    assert all(slot.finished for slot in slots_of(study.trials))


def test_of_two_retries_of_one_trial_one_counts(study: optuna.Study) -> None:
    draw(study, TrialState.FAIL)
    lost = study.trials[0]
    retry(study, lost)
    retry(study, lost)
    assert attempts(study) == [[0, 1]]
    assert slot_of(2, slots_of(study.trials)) is None
    study.ask(), study.ask()
    study.tell(2, 5.0)  # the one that does not count
    assert not slots_of(study.trials)[0].finished
    study.tell(1, state=TrialState.FAIL)
    retry(study, study.trials[1])
    assert attempts(study) == [[0, 1, 3]]


def test_a_reason_is_an_end_and_does_not_outlive_a_retry(study: optuna.Study) -> None:
    draw(study, TrialState.FAIL, reason='no such loss')
    (slot,) = slots_of(study.trials)
    assert slot.finished
    assert not slot.lost
    assert slot.reason == 'no such loss'
    retry(study, slot.last)
    study.ask()
    study.tell(1, state=TrialState.FAIL)
    (slot,) = slots_of(study.trials)
    assert slot.lost
    assert slot.reason == ''


def test_the_order_in_which_trials_are_read_does_not_matter(study: optuna.Study) -> None:
    draw(study, TrialState.FAIL)
    draw(study, TrialState.FAIL)
    retry(study, study.trials[1])
    retry(study, study.trials[0])
    for trials in itertools.permutations(study.trials):
        found = [[trial.number for trial in slot.attempts] for slot in slots_of(trials)]
        assert found == [[0, 3], [1, 2]]


def test_optunas_own_retry_is_understood(study: optuna.Study) -> None:
    draw(study, TrialState.FAIL)
    RETRY()(study, study.trials[0])
    assert attempts(study) == [[0, 1]]
    assert RETRY.retried_trial_number(study.trials[1]) == 0


def drawn(name: str, lost: tuple[int, ...] = (), first: dict | None = None) -> list[float]:
    """What six slots draw, where the workers of some are lost at once."""
    study = optuna.create_study(sampler=sampler(name, 7, [], first), direction='maximize')
    values: list[float] = []
    while len(values) < 6:
        trial = study.ask()
        index = slot_of(trial.number, slots_of(study.trials)).index
        if index in lost and not is_retry(study.trials[trial.number]):
            study.tell(trial, state=TrialState.FAIL)
            retry(study, study.trials[trial.number])
            continue
        values.append(trial.suggest_float('x', 0, 1))
        study.tell(trial, values[-1])
    return values


def is_retry(trial: FrozenTrial) -> bool:
    return RETRY.retried_trial_number(trial) is not None


@pytest.mark.parametrize('name', ['random', 'tpe'])
def test_draws_do_not_depend_on_what_was_lost(name: str) -> None:
    whole = drawn(name)
    assert drawn(name, lost=(0, 3, 4)) == whole
    assert len(set(whole)) == 6


def test_the_first_slot_is_the_config_as_it_is() -> None:
    values = drawn('random', first={'x': 0.125})
    assert values[0] == 0.125
    assert values[1:] == drawn('random')[1:]


def test_two_workers_with_one_seed_do_not_draw_alike() -> None:
    storage = optuna.storages.InMemoryStorage()
    workers = [
        optuna.create_study(
            storage=storage,
            study_name='one',
            load_if_exists=True,
            sampler=sampler('random', 7, [], None),
        )
        for _ in range(2)
    ]
    draws = [worker.ask({'x': FloatDistribution(0, 1)}).params['x'] for worker in workers * 3]
    assert draws == drawn('random')


def test_every_point_of_a_grid_is_drawn_once() -> None:
    points = [{'x': k / 8} for k in range(6)]
    study = optuna.create_study(sampler=sampler('grid', 0, points, None))
    draw(study, TrialState.COMPLETE)
    draw(study, TrialState.FAIL)
    retry(study, study.trials[1])
    while len(slots_of(study.trials)) < 6:
        draw(study, TrialState.COMPLETE)
    assert [slot.last.params['x'] for slot in slots_of(study.trials)] == [p['x'] for p in points]
