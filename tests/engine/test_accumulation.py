"""What gradient accumulation makes of the normaliser, and --auto-scale-lr of the learning rate."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.optim import OptimWrapper

from engine.test_ranks_of_detectors import batch, detector, largest_error
from helpers.tiny_runs import ROOT, run_quickly, write_training

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

NAME = 'retinanet/retinanet_r18-w16_fpn_focal_12e_digit-scenes.py'
FEW, MANY = (0, 1), (8, 7)


def gradient_of(model: Any, *batches: Any) -> dict[str, Any]:
    """What has gathered in the parameters before the optimizer's step."""
    model.zero_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    wrapper = OptimWrapper(optimizer, accumulative_counts=len(batches))
    gathered: dict[str, Any] = {}

    def keep(*_: Any) -> None:
        gathered.update({k: v.grad.clone() for k, v in model.named_parameters()})

    optimizer.register_step_pre_hook(keep)
    for images, samples in batches:
        loss, _ = model.parse_losses(model(images, samples, mode='loss'))
        wrapper.update_params(loss)
    return gathered


def test_each_batch_keeps_its_own_normaliser() -> None:
    """The mean over batches of sums over their own positives, not the sum over all of them."""
    model = detector(NAME)
    parts = [batch((FEW, MANY), rank) for rank in (0, 1)]
    few, many = (gradient_of(model, part) for part in parts)
    accumulated = gradient_of(model, *parts)
    whole = gradient_of(model, batch((FEW, MANY), None))
    mean = {name: (few[name] + many[name]) / 2 for name in few}
    assert largest_error(accumulated, mean) < 1e-5
    assert largest_error(accumulated, whole) > 0.1


def test_batches_of_equal_positives_are_one_large_batch() -> None:
    model = detector(NAME)
    images, samples = batch((FEW, MANY), 1)
    accumulated = gradient_of(model, (images, samples), (images, samples))
    whole = gradient_of(model, (torch.cat([images, images]), samples + samples))
    assert largest_error(accumulated, whole) < 1e-5


def test_auto_scale_lr_counts_the_batch_but_not_accumulation(tmp_path: Any) -> None:
    """0.01 at a batch of 2 is 0.02 at 4, the batch of this training, of which two make a step."""
    config, log = write_training(tmp_path), tmp_path / 'log'
    changed = ('auto_scale_lr.base_batch_size=2', 'optim_wrapper.accumulative_counts=2')
    arguments = (config, '--auto-scale-lr', '--cfg-options', *changed)
    assert run_quickly(ROOT / 'tools/train.py', *arguments, log=log) == 0, log.read_text()
    assert 'current batch size is 4. Scaling the original LR by 2.0' in log.read_text()
    assert re.search(r'Epoch\(train\).* lr: 2\.0000e-02', log.read_text())
