"""The live view leaves a training alone, and shows all its ranks."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS, MODELS
from torch import nn

import mmfocalx
from helpers.forkserver import run_ranks
from helpers.signals import NAMES, SIGNALS, level, sample
from helpers.small_training import train
from mmfocalx.engine import LossSignalsHook

# ---------------------------------------------------------------- a real runner


class CopyingHook(Hook):
    """Copies the model while it is watched, as an exponential moving average does."""

    priority = 'LOW'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.copied = copy.deepcopy(runner.model)


def test_a_training_is_the_same_with_the_hook(tmp_path):
    (config,) = Config.fromfile(mmfocalx.config_path('_base_/loss_signals.py')).custom_hooks
    assert config.pop('type') == 'LossSignalsHook' and config['interval'] > 1
    assert HOOKS.get('LossSignalsHook') is LossSignalsHook
    plain, nothing = train(tmp_path / 'plain')
    runner, rows = train(
        tmp_path / 'watched', dict(type='LossSignalsHook', interval=4), CopyingHook()
    )
    expected, got = plain.model.state_dict(), runner.model.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    assert got['equalized.pos_grad'].sum() > 0 and got['slide.running'] != 0.2
    logs = [r.message_hub.get_scalar('train/loss').data[0].tolist() for r in (plain, runner)]
    assert len(logs[0]) == 18 and logs[0] == logs[1]
    assert nothing == [] and [row['step'] for row in rows] == [4, 8, 12, 16]
    for row in rows:
        assert set(row) == {'step'} | {
            f'loss_signals/{key}'
            for key in (
                *(f'slide/{signal}' for signal in SIGNALS),
                *(f'equalized/{signal}' for signal in SIGNALS),
                *(f'equalized/gamma_{kind}' for kind in ('min', 'mean', 'max')),
                *(f'equalized/gamma/{name}' for name in NAMES),
            )
        }
        assert 0 < row['loss_signals/slide/positive_loss_share'] < 1


def test_nothing_is_computed_between_samples(tmp_path, monkeypatch):
    calls = []
    from mmfocalx.engine import loss_signals

    measure = loss_signals._sums
    monkeypatch.setattr(loss_signals, '_sums', lambda *a: calls.append(a) or measure(*a))
    _, rows = train(tmp_path, LossSignalsHook(interval=7))
    assert [row['step'] for row in rows] == [7, 14]
    assert len(calls) == len(rows) * 2 * 2  # losses, levels


def test_a_resumed_training_goes_on(tmp_path):
    hook = dict(type='LossSignalsHook', interval=5)
    _, whole = train(tmp_path / 'whole', hook)
    train(tmp_path / 'halves', hook, epochs=2)
    _, halves = train(tmp_path / 'halves', hook, resume=True)
    assert [row['step'] for row in halves] == [5, 10, 15]
    assert halves == whole


def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hook = dict(type='LossSignalsHook', interval=4)
    runner, rows = train(tmp_path, hook, backends=('LocalVisBackend', 'TensorboardVisBackend'))
    runner.visualizer.close()
    (folder,) = tmp_path.glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    for name in rows[0].keys() - {'step'}:
        seen = [(event.step, event.value) for event in events.Scalars(name)]
        assert seen == [(row['step'], pytest.approx(row[name])) for row in rows]


# ---------------------------------------------------------------- several ranks


def sample_of_a_rank(rank):
    """One iteration with rows of its own on each rank; rank 2 calls no loss."""
    wrapped = MMDistributedDataParallel(Head())
    return sample(wrapped, lambda: wrapped(*level(9, rank)) if rank < 2 else None)


class Head(BaseModel):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.loss_cls = MODELS.build(dict(type='VarifocalLossX'))

    def forward(self, x, labels, quality, weight):
        return self.loss_cls(self.scale * x, (labels, quality), weight)


def test_signals_are_those_of_all_ranks(tmp_path):
    seen = run_ranks(sample_of_a_rank, 3, tmp_path)
    model = Head()
    together = sample(model, lambda: [model(*level(9, rank)) for rank in (0, 1)])
    assert list(together[0][1]) == [f'loss_signals/loss_cls/{signal}' for signal in SIGNALS]
    for ((_, scalars),) in seen:
        assert scalars == pytest.approx(together[0][1], rel=1e-12)
