"""A loss that is not finite reaches no parameter: it stops the training or is left out."""

from __future__ import annotations

import copy
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.engine.hooks import CheckInvalidLossHook
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch import nn

from helpers.forkserver import run_ranks
from helpers.small_training import Detector, train
from mmfocalx.engine.non_finite import NonFiniteGuardHook, NonFiniteLossError

BAD = 8  # of 18 iterations, counted from 1


class PoisonHook(Hook):
    """Puts NaN, or infinity, into the first sample of some iterations, and notes what happens."""

    priority = 'VERY_LOW'

    def __init__(self, *iterations: int, value: float = math.nan) -> None:
        self.iterations = iterations
        self.value = value
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.batches: list[Any] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append(copy.deepcopy(data_batch))
        self.before.append(state_of(runner))
        if runner.iter + 1 in self.iterations:
            data_batch['x'][0, 0] = self.value

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.after.append(state_of(runner))


def state_of(runner: Any) -> dict[str, Any]:
    return copy.deepcopy(
        dict(model=runner.model.state_dict(), optimizer=runner.optim_wrapper.state_dict())
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def by_hand(batches: list[Any], bad: set[int], accumulated: int = 1) -> dict[str, Any]:
    """The model after the batches but the bad ones, whose numbers count from 1."""
    torch.manual_seed(0)
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for number, batch in enumerate(batches, 1):
        if number not in bad:
            (sum(model(**batch).values()) / accumulated).backward()
        window = {*range(number - accumulated + 1, number + 1)}
        if number % accumulated == 0 and not window & bad:
            optimizer.step()
        if number % accumulated == 0:
            optimizer.zero_grad()
    return dict(model.state_dict())


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_stop_names_the_loss_and_saves_the_state_from_before(tmp_path, value):
    poison = PoisonHook(BAD, value=value)
    with pytest.raises(NonFiniteLossError) as caught:
        train(tmp_path, dict(type='NonFiniteGuardHook'), poison)
    text = str(caught.value)
    assert f'Iteration {BAD}' in text and re.search(r'loss_equalized0 is (nan|inf)', text)
    assert 'loss_slide1' not in text and 'loss_equalized1' not in text  # rows without the value
    assert len(poison.after) == BAD - 1 and len(poison.before) == BAD
    path = tmp_path / f'non_finite/iter_{BAD}.pth'
    assert f'The state is in {path}' in text
    saved = torch.load(path, weights_only=True)
    assert saved['iteration'] == BAD
    assert same(saved['model'], poison.after[-1]['model'])
    assert same(saved['optimizer'], poison.after[-1]['optimizer'])
    assert saved['model']['slide.running'] != 0.2
    # 16 rows of 3 logits on the first level, one of which has a feature that is not finite
    (report,) = saved['report']
    calls = {(name, call): values for name, call, *values in report['inputs']}
    assert set(calls) == {('slide', 0), ('slide', 1), ('equalized', 0), ('equalized', 1)}
    low, high, share = calls['equalized', 0]
    assert -100 < low < high < 100 and share == pytest.approx(1 / 16)
    assert calls['equalized', 1][2] == 0
    assert f'{low:.4g} to {high:.4g}, 6.25% not finite' in text


def test_skip_is_a_training_without_that_batch(tmp_path):
    guard, poison = NonFiniteGuardHook(action='skip'), PoisonHook(BAD, BAD + 3)
    runner, _ = train(tmp_path, guard, poison)
    for number in (BAD, BAD + 3):
        before, after = poison.before[number - 1], poison.after[number - 1]
        assert same(before, after)
        assert not same(poison.before[number - 2], poison.after[number - 2])
    expected = by_hand(poison.batches, {BAD, BAD + 3})
    assert same(dict(runner.model.state_dict()), expected)
    assert sorted(path.name for path in (tmp_path / 'non_finite').iterdir()) == [
        'iter_11.pth',
        'iter_8.pth',
    ]


@pytest.mark.parametrize('bad', [7, 8, 9])
def test_skip_leaves_a_whole_accumulated_step_out(tmp_path, bad):
    """Of three batches each: 7 to 9 are one step."""
    poison = PoisonHook(bad)
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.1), accumulative_counts=3)
    guard = NonFiniteGuardHook(action='skip')
    runner, _ = train(tmp_path, guard, poison, optim_wrapper=wrapper)
    assert same(poison.before[6]['optimizer'], poison.after[8]['optimizer'])
    expected = by_hand(poison.batches, {bad}, accumulated=3)
    torch.testing.assert_close(dict(runner.model.state_dict()), expected, rtol=1e-6, atol=1e-7)
    assert runner.optim_wrapper.inner_count == 18


def test_a_training_without_a_fault_is_the_same_with_the_guard(tmp_path):
    plain, _ = train(tmp_path / 'plain')
    guarded, _ = train(tmp_path / 'guarded', NonFiniteGuardHook(action='skip'))
    assert same(dict(plain.model.state_dict()), dict(guarded.model.state_dict()))
    assert not (tmp_path / 'guarded/non_finite').exists()
    assert 'update_params' not in vars(guarded.optim_wrapper)


def test_between_two_looks_nothing_is_seen(tmp_path):
    with pytest.raises(NonFiniteLossError, match='Iteration 12'):  # the parameters are spoilt
        train(tmp_path, NonFiniteGuardHook(interval=6), PoisonHook(BAD))


def test_it_stops_after_too_many_in_a_row_and_saves_only_so_many(tmp_path):
    guard = NonFiniteGuardHook(action='skip', max_skipped=3, max_states=2)
    poison = PoisonHook(2, 3, 5, 6, 7, 8)
    with pytest.raises(NonFiniteLossError, match=r'(?s)Iteration 8.*3 iterations in a row') as e:
        train(tmp_path, guard, poison)
    assert 'non_finite' not in str(e.value)
    saved = sorted(path.name for path in (tmp_path / 'non_finite').iterdir())
    assert saved == ['iter_2.pth', 'iter_3.pth']


def test_a_state_is_whole_or_absent_and_a_full_disk_stops_nothing(tmp_path, monkeypatch):
    def half(state, file):
        file.write(b'PK')
        raise OSError('no space left')

    monkeypatch.setattr(torch, 'save', half)
    monkeypatch.setattr('mmengine.runner.Runner.save_checkpoint', lambda *a, **k: None)
    poison = PoisonHook(BAD)
    train(tmp_path, NonFiniteGuardHook(action='skip'), poison)
    assert len(poison.after) == 18
    assert list((tmp_path / 'non_finite').iterdir()) == []


# ---------------------------------------------------------------- without a runner


class Levels(BaseModel):
    """Losses of three levels, of which a batch spoils the second."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer('seen', torch.zeros(()))

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.seen += 1
        loss = (self.weight * inputs).sum()
        spoilt = loss * (math.nan if (inputs < 0).any() else 1.0)
        return dict(
            loss_cls=[loss, spoilt, loss], loss_bbox=loss, accuracy=loss.detach() * math.inf
        )


def step(model: Any, batch: dict[str, Any], hook: NonFiniteGuardHook, folder: Any) -> Any:
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, work_dir=folder, iter=4)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, batch)
    try:
        model.train_step(batch, wrapper)
    finally:
        hook.after_train(runner)
    return wrapper


def batch_of(value: float) -> dict[str, Any]:
    samples = [SimpleNamespace(metainfo=dict(img_path='a.jpg', shape=(3, 4), odd={1, 2}))]
    return dict(inputs=torch.full((2,), value), data_samples=samples)


def test_the_level_and_the_batch_are_named(tmp_path):
    model = Levels()
    with pytest.raises(NonFiniteLossError) as caught:
        step(model, batch_of(-1.0), NonFiniteGuardHook(), tmp_path)
    assert str(caught.value).splitlines()[:2] == [
        'Iteration 5: the loss is not finite.',
        '  loss_cls of level 1 is nan',
    ]
    assert 'loss_bbox' not in str(caught.value) and 'accuracy' not in str(caught.value)
    saved = torch.load(tmp_path / 'non_finite/iter_5.pth', weights_only=True)
    assert saved['batch'] == [[dict(img_path='a.jpg', shape=[3, 4], odd='{1, 2}')]]
    assert not model._forward_hooks and model.seen == 0


def run_rank(rank: int, folder: Any) -> list[Any]:
    """Rank 1 alone has a bad batch; then both have a good one."""
    results: list[Any] = []
    for action in ('stop', 'skip'):
        model = MMDistributedDataParallel(Levels())
        hook = NonFiniteGuardHook(action=action)
        try:
            wrapper = step(model, batch_of(-1.0 if rank else 1.0), hook, folder / action)
        except NonFiniteLossError as error:
            results.append(str(error))
            continue
        results.append((copy.deepcopy(model.module.state_dict()), wrapper.state_dict()['state']))
        step(model, batch_of(1.0 + rank), hook, folder)
        results.append(model.module.state_dict())
    return results


def test_all_ranks_do_the_same(tmp_path):
    ranks = run_ranks(run_rank, 2, tmp_path, tmp_path)
    for stopped, (after_skip, momentum), _ in ranks:
        assert 'loss_cls of level 1 is nan on rank 1' in stopped and 'on rank 0' not in stopped
        assert same(after_skip, Levels().state_dict()) and momentum == {}
    assert ranks[0][0] == ranks[1][0]
    # loss = 4 w x, whose mean x over the ranks is 1.5
    for *_, trained in ranks:
        torch.testing.assert_close(trained['weight'], torch.full((2,), 1 - 0.1 * 4 * 1.5))
    for action in ('stop', 'skip'):
        saved = torch.load(tmp_path / action / 'non_finite/iter_5.pth', weights_only=True)
        assert [report['losses'] for report in saved['report']] == [
            [],
            ['loss_cls of level 1 is nan'],
        ]
        assert len(saved['batch']) == 2


def test_it_is_mmdets_hook_by_its_name_in_a_config():
    hook = HOOKS.build(dict(type='NonFiniteGuardHook', interval=50))
    assert isinstance(hook, NonFiniteGuardHook) and isinstance(hook, CheckInvalidLossHook)


@pytest.mark.parametrize(
    ('settings', 'error', 'named'),
    [
        (dict(interval=0), ValueError, 'interval'),
        (dict(interval=1.0), TypeError, 'interval'),
        (dict(action='ignore'), ValueError, 'action'),
        (dict(action='skip', interval=2), ValueError, 'interval'),
        (dict(max_skipped=0), ValueError, 'max_skipped'),
        (dict(max_states=-1), ValueError, 'max_states'),
    ],
)
def test_bad_settings_are_named(settings, error, named):
    with pytest.raises(error, match=f'Expected argument `{named}`'):
        NonFiniteGuardHook(**settings)


def test_several_optimizers_are_refused():
    runner = SimpleNamespace(model=Levels(), optim_wrapper=OptimWrapperDict())
    with pytest.raises(TypeError, match=r'optim_wrapper.*OptimWrapperDict'):
        NonFiniteGuardHook().before_train(runner)
