"""One iteration of a training without its runner, and the signals that are seen of it."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from mmfocalx.engine import LossSignalsHook

CLASSES = 3
NAMES = ('red', 'white', 'platelet')
SIGNALS = ('mean_positive_quality', 'positive_loss_share', 'effective_hard_negatives')


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
