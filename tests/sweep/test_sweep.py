"""`tools/sweep.py` with stub trainings: what it trains, prunes, retries, writes and shows."""

from __future__ import annotations

import html
import io
import re
import shlex
import sys
from pathlib import Path

import optuna
import pytest
from mmengine.config import Config
from optuna.trial import TrialState

from helpers import tiny_detection
from helpers.sweeping import Sweep, Swept, a_sweep, final_value
from mmfocalx.sweep.slots import retry

ROOT = Path(__file__).resolve().parents[2]
STEP = ('--search', 'step=float:0.05:0.95')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detection.write_dataset(tmp_path_factory.mktemp('set') / 'data')


@pytest.fixture
def sweep(tmp_path: Path, data: Path) -> Sweep:
    return a_sweep(tmp_path, data)


def text_of(page: str) -> str:
    return html.unescape(
        re.sub(r'\s+', ' ', re.sub(r'<style.*?</style>|<[^>]*>', '', page, flags=re.S))
    )


def starts(sweep: Sweep, index: int) -> int:
    return len((sweep.folder(index) / 'starts.txt').read_text().splitlines())


def test_values_best_config_and_page(sweep: Sweep, capsys: pytest.CaptureFixture) -> None:
    swept = sweep.run(*STEP, '--trials', 4)
    assert swept.code == 0
    values = [trial['value'] for trial in swept.trials()]
    steps = [trial['values']['step'] for trial in swept.trials()]
    assert values == [final_value(step) for step in steps]
    assert steps[0] == 0.1  # the config as it is
    assert swept.numbers['default'] == 0
    best = max(range(4), key=values.__getitem__)
    assert swept.numbers['best'] == best
    written = Config.fromfile(str(sweep.out / 'best.py'))
    assert written.step == steps[best]
    assert written.randomness.seed == 0
    assert written.model.type == 'RetinaNet'
    page = text_of(swept.page)
    assert '4 of 4 trials complete, 0 pruned, 0 failed' in page
    assert f'{100 * values[best]:.1f} (+{100 * (values[best] - values[0]):.1f})' in page
    assert 'History' in page
    assert 'Along step' in page
    named = f'{sweep.config.stem}-best={sweep.out / "best.py"}'
    command = f'compare.py {sweep.config} {named} --seeds 1 2 3 --out'
    assert command in page
    log = capsys.readouterr().out.splitlines()
    assert any(command in line for line in log)
    for index, value in enumerate(values):
        training = sweep.folder(index) / 'train.log'
        begun = f'begun  trial {index} (log: {training})'
        assert log.count(begun) == 1
        assert training.exists()
        ended = f'done   trial {index} (step {steps[index]:.4g}): mAP {100 * value:.1f} %'
        assert log.index(ended) > log.index(begun)
    head = (sweep.out / 'best.py').read_text().splitlines()[0]
    assert head.startswith(f'# mAP {100 * values[best]:.2f} % on val, seed 0: trial ')
    assert 'Missing' not in page
    assert 'src="http' not in swept.page


def test_a_log_has_each_line_when_it_is_there(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO()))
    sweep.run(*STEP, '--trials', 1)
    assert sys.stdout.line_buffering


def test_a_finished_sweep_trains_nothing_and_goes_on_to_more(sweep: Sweep) -> None:
    first = sweep.run(*STEP, '--trials', 2)
    again = sweep.run(*STEP, '--trials', 2)
    assert again.trials() == first.trials()
    more = sweep.run(*STEP, '--trials', 3)
    assert more.trials()[:2] == first.trials()
    assert more.states() == ['complete'] * 3
    assert [starts(sweep, index) for index in range(3)] == [1, 1, 1]


def test_a_sweep_that_finds_nothing_says_so(sweep: Sweep, capsys: pytest.CaptureFixture) -> None:
    page = text_of(sweep.run(*STEP, '--trials', 1).page)
    said = capsys.readouterr().out
    for text in (page, said):
        assert 'No trial is better than the config as it is' in text
        assert 'compare.py' not in text


def test_the_comparison_has_the_options_of_the_trials(
    sweep: Sweep, capsys: pytest.CaptureFixture
) -> None:
    sweep.run(*STEP, '--trials', 4, '--seeds', 2, 0, '--cfg-options', 'size=(4, 5)')
    (line,) = [one for one in capsys.readouterr().out.splitlines() if 'compare.py' in one]
    words = shlex.split(line)
    assert words[words.index('--seeds') :][:4] == ['--seeds', '3', '4', '5']
    assert words[-2:] == ['--cfg-options', 'size=(4, 5)']


def test_the_comparison_leaves_the_searched_values_to_the_best(
    sweep: Sweep, capsys: pytest.CaptureFixture
) -> None:
    sweep.run(*STEP, '--trials', 4, '--cfg-options', 'step=0.3')
    said = capsys.readouterr().out
    assert 'Compare it on other seeds' in said
    assert '--cfg-options' not in said.split('Compare it on other seeds')[1].splitlines()[0]


def test_two_seeds_are_averaged(sweep: Sweep) -> None:
    swept = sweep.run(*STEP, '--trials', 2, '--seeds', 3, 5)
    for trial in swept.trials():
        single = [final_value(trial['values']['step'], seed) for seed in (3, 5)]
        assert trial['value'] == pytest.approx(sum(single) / 2, rel=1e-12)
        assert [result['seed'] for result in trial['results']] == [3, 5]


def test_every_point_of_a_grid(sweep: Sweep) -> None:
    swept = sweep.run('--search', 'step=float:0.2:0.6:0.2', 'train_cfg.by=choice:1,2',
                      '--sampler', 'grid', '--cfg-options', 'train_cfg.by=0')  # fmt: skip
    found = [(trial['values']['step'], trial['values']['train_cfg.by']) for trial in swept.trials()]
    assert found == [(step, by) for step in (0.2, 0.4, 0.6) for by in ('1', '2')]
    assert swept.numbers['default'] is None
    assert 'the gain is unknown' in text_of(swept.page)


@pytest.mark.parametrize(
    ('values', 'edge'), [('0.15:0.35:0.1', 'high'), ('0.1:0.2:0.05', 'low'), ('0.3:0.4:0.05', '')]
)
def test_a_best_value_at_the_edge_of_its_range_is_said(
    sweep: Sweep, values: str, edge: str
) -> None:
    swept = sweep.run('--search', f'step=float:{values}', '--sampler', 'grid', '--pruner', 'none')
    said = [note for note in swept.numbers['notes'] if 'end of its range' in note]
    assert len(said) == bool(edge)
    assert all(f'best step is near the {edge} end of its range (float:{values})' in s for s in said)


def test_hopeless_trainings_are_pruned(tmp_path: Path, data: Path) -> None:
    sweep = a_sweep(tmp_path, data, more='watched = 0.9', pause=0.3)
    values = ','.join(f'0.{digit}' for digit in '98765432')
    swept = sweep.run('--search', f'watched=choice:{values}', '--sampler', 'grid')
    states = dict(
        zip([t['values']['watched'] for t in swept.trials()], swept.states(), strict=True)
    )
    assert [states[f'0.{digit}'] for digit in '9876'] == ['complete'] * 4  # nothing to compare with
    assert [states[f'0.{digit}'] for digit in '5432'] == ['pruned'] * 4
    for trial in swept.trials()[4:]:
        assert trial['while_training'] == {'1': pytest.approx(trial['value'])}
        assert len(sweep.history(trial['number'])) < 5  # its training was ended
        assert not (sweep.folder(trial['number']) / 'val').exists()
    assert swept.code == 0
    assert '4 pruned' in text_of(swept.page)


def test_without_a_pruner_all_come_to_their_end(tmp_path: Path, data: Path) -> None:
    sweep = a_sweep(tmp_path, data, more='watched = 0.9')
    swept = sweep.run('--search', 'watched=choice:0.9,0.8,0.7,0.6,0.1', '--sampler', 'grid',
                      '--pruner', 'none')  # fmt: skip
    assert swept.states() == ['complete'] * 5


@pytest.mark.parametrize(
    ('given', 'expected'), [((), 2), (('--val-interval', 1), 1), (('--pruner', 'none'), 8)]
)
def test_trainings_measure_their_map_often_enough(
    tmp_path: Path, data: Path, given: tuple, expected: int
) -> None:
    more = 'train_cfg = dict(max_epochs=8, val_interval=8)'
    sweep = a_sweep(tmp_path, data, more=more)
    sweep.run(*STEP, '--trials', 1, *given)
    config = Config.fromfile(str(sweep.folder(0) / 'config' / 'config.py'))
    assert config.train_cfg.val_interval == expected


def test_a_schedule_without_validation_is_left_alone_and_said(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    more = 'train_cfg = dict(max_epochs=8, val_interval=8)'
    sweep = a_sweep(tmp_path, data, more=more)
    options = ('train_cfg.max_epochs=4', 'train_cfg.val_begin=100')
    swept = sweep.run(*STEP, '--trials', 2, '--cfg-options', *options)
    assert swept.code == 0
    config = Config.fromfile(str(sweep.folder(0) / 'config' / 'config.py'))
    assert config.train_cfg.val_interval == 8
    said = capsys.readouterr().out
    assert 'val_begin=100 of 4: no trial measures its mAP in time to prune it' in said
    assert f'what all trials were trained with, too: {" ".join(options)}' in said
    best = sweep.out / 'best.py'
    assert 'trained with train_cfg.max_epochs=4' in best.read_text().split('_base_')[0]
    assert Config.fromfile(str(best)).train_cfg.max_epochs == 4


def test_a_trial_that_fails_counts_and_is_retried_on_request(tmp_path: Path, data: Path) -> None:
    sweep = a_sweep(tmp_path, data)
    arguments = ('--search', 'mood=choice:fine,broken,hiccup', '--sampler', 'grid')
    swept = sweep.run(*arguments)
    assert swept.code == 1
    assert swept.states() == ['complete', 'failed', 'complete']
    assert swept.trials()[1]['reason'] == 'seed 0: training: mmengine.FancyError: no such loss'
    assert 'no such loss' in swept.page
    assert sweep.run(*arguments).trials() == swept.trials()
    assert starts(sweep, 1) == 1
    train = sweep.tools / 'train.py'
    train.write_text(train.read_text().replace("mood == 'broken'", 'False'))
    again = sweep.run(*arguments, '--retry-failed')
    assert again.code == 0
    assert again.states() == ['complete'] * 3
    assert len(again.trials()[1]['attempts']) == 2


def test_a_sweep_in_which_everything_fails_ends(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    sweep = a_sweep(tmp_path, data, mood='broken')
    swept = sweep.run(*STEP, '--trials', 9)
    assert swept.code == 1
    assert swept.states() == ['failed'] * 3
    assert 'Given up: the first 3 trials failed' in capsys.readouterr().err
    assert not (sweep.out / 'best.py').exists()
    assert 'No trial has come to its end' in text_of(swept.page)


def test_a_trial_of_a_worker_that_was_stopped_is_counted_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first trial is trained, somebody takes its worker for lost and queues it again."""
    from mmfocalx.sweep import worker

    results = worker.Worker._result

    def taken(self: worker.Worker, outcome: object, trial: optuna.Trial) -> dict:
        found = results(self, outcome, trial)
        if trial.number == 0:
            self._study.tell(0, state=TrialState.FAIL)
            self.queue_lost()
        return found

    monkeypatch.setattr(worker.Worker, '_result', taken)
    swept: Swept = sweep.run(*STEP, '--trials', 2)
    assert swept.code == 0
    assert [trial['attempts'] for trial in swept.trials()] == [[0, 1], [2]]
    assert swept.states() == ['complete'] * 2
    assert starts(sweep, 0) == 1  # its result was there


def test_trials_that_are_not_for_this_sweep_are_not_trained(sweep: Sweep) -> None:
    """Others drew one trial too many, and queued a lost one twice."""
    sweep.run(*STEP, '--trials', 2)
    backend = optuna.storages.journal.JournalFileBackend(sweep.storage)
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name='config')
    lost = study.ask().number
    study.enqueue_trial({'step': 0.3})  # the fourth of three
    study.tell(lost, state=TrialState.FAIL)
    for _ in range(2):
        retry(study, study.trials[lost])
    swept = sweep.run(*STEP, '--trials', 3)
    assert [trial['attempts'] for trial in swept.trials()] == [[0], [1], [2, 4]]
    assert swept.states() == ['complete'] * 3
    assert not sweep.folder(3).exists()
    more = sweep.run(*STEP, '--trials', 4)
    assert more.trials()[3]['values'] == {'step': 0.3}
    assert more.states() == ['complete'] * 4
    assert starts(sweep, 2) == 1
