"""The live view of a training: its signals against NumPy, and a training that it leaves alone."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.multiprocessing
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import mmfocalx
from mmfocalx.engine import LossSignalsHook

CLASSES = 3
NAMES = ('red', 'white', 'platelet')
SIGNALS = ('mean_positive_quality', 'positive_loss_share', 'effective_hard_negatives')
# The processes of the ranks are forked from one that has imported all this.
multiprocessing.get_context('forkserver').set_forkserver_preload(['mmfocalx'])

# ---------------------------------------------------------------- NumPy, in float64


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bce(p, y):
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def varifocal(x, y):
    p = sigmoid(x)
    return np.where(y > 0, y, 0.75 * p**2) * bce(p, y)


def focal(x, y):
    p = sigmoid(x)
    return (0.25 * y + 0.75 * (1 - y)) * (p * (1 - y) + (1 - p) * y) ** 2 * bce(p, y)


def quality_focal(x, y):
    p = sigmoid(x)
    return (y - p) ** 2 * bce(p, y)


def softmax_focal(x, y):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return 0.25 * y * (1 - p) ** 2 * -np.log(p)


def slide(x, y, mu=0.6):
    weight = np.select([y <= mu - 0.1, y < mu], [1.0, np.exp(1 - mu)], np.exp(1 - y))
    return weight * bce(sigmoid(x), y)


def expected_signals(quality, positive, entries):
    """Of flat arrays over all the entries that count."""
    own, others = entries[positive], entries[~positive]
    return {
        'mean_positive_quality': quality[positive].mean(),
        'positive_loss_share': own.sum() / entries.sum(),
        'effective_hard_negatives': others.sum() ** 2 / (others**2).sum(),
    }


def keep_largest(losses, ratio):
    kept = np.zeros(losses.size, dtype=bool)
    kept[np.argsort(-losses.ravel())[: int(np.ceil(ratio * losses.size))]] = True
    return kept.reshape(losses.shape)


# ---------------------------------------------------------------- a stand-in for the runner


class Recorder:
    def __init__(self, names):
        self.dataset_meta = dict(classes=names)
        self.seen = []

    def add_scalars(self, scalars, step):
        self.seen.append((step, scalars))


def sample(model, calls, hook=None, iteration=0, names=NAMES):
    """The scalars of one iteration in which ``calls`` is called."""
    hook = hook or LossSignalsHook(interval=1)
    runner = SimpleNamespace(model=model, visualizer=Recorder(names), iter=iteration)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    calls()
    hook.after_train_iter(runner, 0)
    hook.after_train(runner)
    assert no_hooks(model)
    return runner.visualizer.seen


def no_hooks(model):
    return not any(m._forward_hooks for m in model.modules())


def level(rows, seed, channels=CLASSES):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, generator=g, dtype=torch.float64) * 2
    labels = torch.randint(0, CLASSES + 1, (rows,), generator=g)
    quality = torch.rand(rows, generator=g, dtype=torch.float64) * 0.9 + 0.1
    weight = torch.rand(rows, generator=g, dtype=torch.float64)
    return x, labels, quality, weight


SIGMOID = {
    'VarifocalLossX': (varifocal, {}),
    'FocalLossX': (focal, {}),
    'QualityFocalLossX': (quality_focal, {}),
    'SlideLossX': (slide, {'auto_iou': 0.6}),
}


@pytest.mark.parametrize('ohem_ratio', [None, 0.3])
@pytest.mark.parametrize('name', SIGMOID)
def test_signals_over_levels(name, ohem_ratio):
    """Two calls, with weights and ignored rows; mined per row where the loss sums over classes."""
    formula, settings = SIGMOID[name]
    model = nn.ModuleDict({'cls': MODELS.build({'type': name, **settings})})
    loss = model['cls']
    loss.ignore_index, loss.ohem_ratio, loss.loss_weight = 1, ohem_ratio, 3.0
    qualities, positives, entries, calls = [], [], [], []
    for seed, rows in enumerate((40, 17)):
        x, labels, quality, weight = level(rows, seed)
        valid = (labels != 1).numpy()
        y = np.where(labels[:, None].numpy() == np.arange(CLASSES), quality[:, None].numpy(), 0)
        unreduced = (formula(x.numpy(), y) * weight[:, None].numpy())[valid]
        if ohem_ratio is not None:
            by_row = name == 'QualityFocalLossX'
            ranked = unreduced.sum(1, keepdims=True) if by_row else unreduced
            unreduced = unreduced * keep_largest(ranked, ohem_ratio)
        qualities.append(y[valid].ravel())
        positives.append(y[valid].ravel() > 0)
        entries.append(unreduced.ravel())
        calls.append(lambda x=x, t=(labels, quality), w=weight: loss(x, t, w, avg_factor=4.0))
    expected = expected_signals(*map(np.concatenate, (qualities, positives, entries)))
    ((step, scalars),) = sample(model, lambda: [call() for call in calls], iteration=11)
    assert step == 12
    assert scalars == pytest.approx(
        {f'loss_signals/cls/{key}': value for key, value in expected.items()}, rel=1e-6
    )


def test_softmax_counts_the_last_channel_as_background():
    config = dict(type='FocalLossX', use_sigmoid=False, ignore_index=1)
    model = nn.ModuleDict({'cls': MODELS.build(config)})
    x, labels, *_ = level(60, 5, CLASSES + 1)
    counted = labels != 1
    y = np.eye(CLASSES + 1)[labels[counted].numpy()]
    entries = softmax_focal(x[counted].numpy(), y).ravel()
    positive = (y > 0) & (np.arange(CLASSES + 1) < CLASSES)
    expected = expected_signals(y.ravel(), positive.ravel(), entries)
    assert expected['mean_positive_quality'] == 1
    ((_, scalars),) = sample(model, lambda: model['cls'](x, labels))
    assert list(scalars.values()) == pytest.approx(list(expected.values()), rel=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_precisions_and_no_gradient(dtype):
    """Probabilities in any precision, as arguments or by name, and without a graph."""
    model = nn.ModuleDict({'cls': MODELS.build(dict(type='FocalLossX', activated=True))})
    p = torch.tensor([[0.5, 0.25, 0.125], [0.75, 0.5, 0.25]], dtype=dtype)
    labels = torch.tensor([1, CLASSES])

    def call():
        with torch.no_grad():
            model['cls'](pred=p, target=(labels, quality))

    quality = torch.tensor([0.7, 0.0])
    y = np.array([[0, 0.7, 0], [0, 0, 0]])
    entries = focal(np.log(p.double().numpy() / (1 - p.double().numpy())), y)
    expected = expected_signals(y.ravel(), y.ravel() > 0, entries.ravel())
    ((_, scalars),) = sample(model, call)
    assert list(scalars.values()) == pytest.approx(list(expected.values()), rel=1e-5)


def test_equal_negatives_count_fully():
    model = nn.ModuleDict({'cls': MODELS.build(dict(type='FocalLossX'))})
    x = torch.full((25, 2), -30.0)
    x[:7, 0] = 1.5
    ((_, scalars),) = sample(model, lambda: model['cls'](x, torch.full((25,), 2)))
    assert scalars['loss_signals/cls/effective_hard_negatives'] == pytest.approx(7)


def test_undefined_signals_are_left_out():
    model = nn.ModuleDict({'cls': MODELS.build(dict(type='FocalLossX', ignore_index=1))})
    background = torch.full((4,), CLASSES)
    ((_, scalars),) = sample(model, lambda: model['cls'](torch.zeros(4, CLASSES), background))
    assert set(scalars) == {
        'loss_signals/cls/positive_loss_share',
        'loss_signals/cls/effective_hard_negatives',
    }
    assert scalars['loss_signals/cls/positive_loss_share'] == 0
    ignored = torch.full((4,), 1)
    assert sample(model, lambda: model['cls'](torch.zeros(4, CLASSES), ignored)) == []
    assert sample(model, lambda: model['cls'](torch.zeros(0, CLASSES), background[:0])) == []
    assert sample(model, lambda: None) == []


@pytest.mark.parametrize('inside_slide', [False, True])
def test_gamma_of_each_class(inside_slide):
    equalized = dict(type='EqualizedFocalLossX', num_classes=CLASSES, gamma=1.5, scale_factor=4.0)
    config = dict(type='SlideLossX', loss=equalized) if inside_slide else equalized
    model = nn.ModuleDict({'cls': MODELS.build(config)}).eval()
    owner = model['cls'].loss if inside_slide else model['cls']
    owner.pos_grad.copy_(torch.tensor([0.25, 3.0, 0.0]))
    owner.neg_grad.copy_(torch.tensor([1.0, 1.0, 0.0]))
    x, labels, quality, _ = level(8, 0)
    gammas = [1.5 + 4.0 * 0.75, 1.5, 1.5]  # balances: 0.25, at most 1, 1 without data

    def shown(hook, names=NAMES):
        def calls():
            model['cls'](x, (labels, quality))

        ((_, scalars),) = sample(model, calls, hook, names=names)
        prefix = 'loss_signals/cls/gamma'
        return {k.removeprefix(prefix): v for k, v in scalars.items() if k.startswith(prefix)}

    short = {'_min': 1.5, '_mean': sum(gammas) / 3, '_max': 4.5}
    by_name = {f'/{name}': gamma for name, gamma in zip(NAMES, gammas, strict=True)}
    assert shown(LossSignalsHook(1)) == pytest.approx({**short, **by_name})
    assert shown(LossSignalsHook(1, per_class=False)) == pytest.approx(short)
    by_number = {f'/{c}': gamma for c, gamma in enumerate(gammas)}
    assert shown(LossSignalsHook(1), ('one',)) == pytest.approx({**short, **by_number})


def test_copies_are_taken_at_any_moment():
    model = nn.ModuleDict({'cls': MODELS.build(dict(type='FocalLossX'))})
    hook = LossSignalsHook(interval=1)
    x, labels, *_ = level(8, 0)

    def call():
        model['cls'](x, labels)
        copied, copied_hook = copy.deepcopy(model), copy.deepcopy(hook)
        copied['cls'](x, labels)
        assert copied_hook.interval == 1

    once = sample(model, lambda: model['cls'](x, labels))
    assert len(once) == 1
    sample(model, call, hook)
    assert sample(model, lambda: model['cls'](x, labels), copy.deepcopy(hook)) == once


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        (dict(interval=0), ValueError),
        (dict(interval=2.0), TypeError),
        (dict(interval=True), TypeError),
        (dict(per_class=1), TypeError),
    ],
)
def test_wrong_arguments(arguments, error):
    (name,) = arguments
    with pytest.raises(error, match=f'`{name}`'):
        LossSignalsHook(**arguments)


# ---------------------------------------------------------------- a real runner


class Rows(Dataset):
    def __init__(self):
        self.metainfo = dict(classes=NAMES)

    def __len__(self):
        return 24

    def __getitem__(self, index):
        g = torch.Generator().manual_seed(index)
        x = torch.randn(6, 4, generator=g)
        labels = torch.randint(0, CLASSES + 1, (6,), generator=g)
        return dict(x=x, labels=labels, quality=torch.rand(6, generator=g) * 0.8 + 0.1)


class Detector(BaseModel):
    """Losses with state, each called on two levels."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.slide = MODELS.build(dict(type='SlideLossX', momentum=0.5))
        self.equalized = MODELS.build(dict(type='EqualizedFocalLossX', num_classes=CLASSES))

    def forward(self, x, labels, quality, mode='loss'):
        losses = {}
        for number, rows in enumerate((slice(0, 4), slice(4, 6))):
            logits = self.linear(x[:, rows].flatten(0, 1))
            target = labels[:, rows].flatten(), quality[:, rows].flatten()
            losses[f'loss_slide{number}'] = self.slide(logits, target)
            losses[f'loss_equalized{number}'] = self.equalized(logits, target)
        return losses


class CopyingHook(Hook):
    """Copies the model while it is watched, as an exponential moving average does."""

    priority = 'LOW'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.copied = copy.deepcopy(runner.model)


def train(work_dir, *hooks, epochs=3, resume=False, backends=('LocalVisBackend',), **config):
    """A model trained for ``epochs`` of 6 iterations, and the signals in its scalars.json."""
    torch.manual_seed(0)
    runner = Runner(
        model=Detector(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Rows(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        custom_hooks=list(hooks),
        visualizer=dict(
            type='Visualizer',
            name=f'{work_dir}{epochs}',
            vis_backends=[dict(type=backend) for backend in backends],
        ),
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.name}{epochs}',
        resume=resume,
        default_scope='mmdet',
        log_level='ERROR',
        **config,
    )
    runner.train()
    assert no_hooks(runner.model)
    rows = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        rows += [json.loads(line) for line in file.read_text().splitlines()]
    return runner, [row for row in rows if any(key.startswith('loss_signals/') for key in row)]


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


def test_a_model_without_such_a_loss_is_told(tmp_path, caplog):
    from mmengine.logging import MMLogger

    MMLogger.get_current_instance().addHandler(caplog.handler)
    try:
        model = nn.ModuleDict({'linear': nn.Linear(2, 2)})
        assert sample(model, lambda: None) == []
    finally:
        MMLogger.get_current_instance().removeHandler(caplog.handler)
    assert 'no classification loss of mmfocalx' in caplog.text


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


def run_rank(rank, world_size, folder):
    """One iteration with rows of its own on each rank; the last rank calls no loss."""
    torch.set_num_threads(1)
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    model = Head()
    wrapped = MMDistributedDataParallel(model)
    calls = (lambda: None) if rank == world_size - 1 > 0 else (lambda: wrapped(*level(9, rank)))
    seen = sample(wrapped, calls)
    torch.save(seen, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


class Head(BaseModel):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.loss_cls = MODELS.build(dict(type='VarifocalLossX'))

    def forward(self, x, labels, quality, weight):
        return self.loss_cls(self.scale * x, (labels, quality), weight)


def test_signals_are_those_of_all_ranks(tmp_path):
    torch.multiprocessing.start_processes(
        run_rank, (3, tmp_path), nprocs=3, start_method='forkserver'
    )
    seen = [torch.load(tmp_path / f'{rank}.pth') for rank in range(3)]
    model = Head()
    together = sample(model, lambda: [model(*level(9, rank)) for rank in (0, 1)])
    assert list(together[0][1]) == [f'loss_signals/loss_cls/{signal}' for signal in SIGNALS]
    for ((_, scalars),) in seen:
        assert scalars == pytest.approx(together[0][1], rel=1e-12)
