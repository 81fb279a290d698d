"""The live view of a training: its signals against NumPy."""

from __future__ import annotations

import copy
import logging
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from helpers.signals import CLASSES, NAMES, level, sample
from mmfocalx.engine import LossSignalsHook, loss_signals

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


def test_a_model_without_such_a_loss_is_told(monkeypatch):
    log = Mock()
    monkeypatch.setattr(loss_signals, 'print_log', log)
    assert sample(nn.ModuleDict({'linear': nn.Linear(2, 2)}), lambda: None) == []
    message, logger, level = log.call_args.args
    assert 'no classification loss of mmfocalx' in message
    assert (logger, level) == ('current', logging.WARNING)
