"""The heads of TOOD and RTMDet hand soft scores to whichever loss their config names."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

from helpers.configs import LAST_EPOCH, SMALL, batch, build, parts

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.mark.parametrize('name', [name for name in SMALL if parts(name)[0] in ('tood', 'rtmdet')])
def test_the_loss_of_a_task_aligned_detector_takes_soft_scores(name: str) -> None:
    init_default_scope('mmdet')
    model = build(name)
    model.init_weights()
    MessageHub.get_current_instance().update_info('epoch', LAST_EPOCH)
    calls = []
    loss_cls = model.bbox_head.loss_cls
    with loss_cls.register_forward_hook(lambda *args: calls.append(args[1:])):
        model.loss(*batch(model.bbox_head.num_classes))
    (pred, (labels, quality), _), loss = calls[0]  # of the finest level
    positive = labels < model.bbox_head.num_classes
    assert ((quality[positive] > 0) & (quality[positive] < 1)).all() and positive.any()
    of_hard_labels = loss_cls(pred, (labels, positive.float()), avg_factor=1.0)
    assert not torch.isclose(loss, of_hard_labels, rtol=1e-2)
