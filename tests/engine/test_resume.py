"""A training that is killed three times ends where the uninterrupted one does."""

from __future__ import annotations

import builtins
import os
import random
import re
import signal
from functools import partial

import pytest

pytest.importorskip('mmdet')

import torch

from helpers.tiny_runs import ROOT, run_quickly, write_training
from mmfocalx.engine import is_whole

EPOCHS, ITERATIONS = 6, 2  # per epoch


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_iteration(last):
    """SIGKILL in the hooks after training iteration ``last`` (0-based, over all epochs)."""
    from mmengine.hooks import IterTimerHook

    after_train_iter = IterTimerHook._after_iter

    def after(self, runner, batch_idx, *args, mode='train', **kwargs):
        if mode == 'train' and runner.iter == last:
            _die()
        after_train_iter(self, runner, batch_idx, *args, mode=mode, **kwargs)

    IterTimerHook._after_iter = after


def die_while_writing(name, share):
    """SIGKILL when ``share`` of the bytes of a file whose name starts with ``name`` are written."""
    open_file = builtins.open

    def open_to_die(path, mode='r', *args, **kwargs):
        file = open_file(path, mode, *args, **kwargs)
        if 'w' in mode and os.path.basename(str(path)).startswith(name):

            class Torn:
                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    file.close()

                def write(self, content):
                    file.write(content[: int(len(content) * share)])
                    file.flush()
                    _die()

            return Torn()
        return file

    builtins.open = open_to_die


def train(config, log, *arguments, before=None):
    return run_quickly(ROOT / 'tools/train.py', config, *arguments, log=log, before=before)


def resumed_epoch(log):
    found = re.search(r'resumed epoch: (\d+)', log.read_text())
    return found and int(found[1])


def final(work):
    checkpoint = torch.load(work / f'epoch_{EPOCHS}.pth')
    losses = [
        float(value)
        for log in sorted(work.glob('*/*.log'))
        for value in re.findall(rf'Epoch\(train\)\s+\[{EPOCHS}\].* loss: (\S+)', log.read_text())
    ]
    return checkpoint, losses[-1]


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    chance = random.Random(20)
    config = write_training(tmp_path, epochs=EPOCHS, keep=1)
    straight, broken = tmp_path / 'straight', tmp_path / 'broken'
    log = tmp_path / 'log'
    assert train(config, log, '--work-dir', straight) == 0, log.read_text()[-4000:]

    first = chance.randrange(ITERATIONS, 2 * ITERATIONS)  # in the second epoch
    torn_epoch = chance.randrange(3, EPOCHS - 1)
    last = chance.randrange(torn_epoch * ITERATIONS, (EPOCHS - 1) * ITERATIONS)
    kills = [
        partial(die_after_iteration, first),
        partial(die_while_writing, f'epoch_{torn_epoch}.pth', chance.uniform(0.01, 0.99)),
        partial(die_after_iteration, last),
    ]
    for expected, kill in zip((None, first // 2, torn_epoch - 1), kills, strict=True):
        code = train(config, log, '--work-dir', broken, '--resume', before=kill)
        assert code == -signal.SIGKILL, log.read_text()[-4000:]
        assert resumed_epoch(log) == expected
        assert any(is_whole(path) for path in broken.glob('epoch_*.pth'))
    assert train(config, log, '--work-dir', broken, '--resume') == 0, log.read_text()[-4000:]
    assert resumed_epoch(log) == last // 2

    (ours, our_loss), (theirs, their_loss) = final(broken), final(straight)
    assert ours['meta']['epoch'] == theirs['meta']['epoch'] == EPOCHS
    assert ours['meta']['iter'] == theirs['meta']['iter'] == EPOCHS * ITERATIONS
    assert our_loss == pytest.approx(their_loss, rel=1e-3)
    for name, value in theirs['state_dict'].items():
        torch.testing.assert_close(ours['state_dict'][name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert [path.name for path in broken.glob('*.pth')] == [f'epoch_{EPOCHS}.pth']
