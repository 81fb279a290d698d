"""Every head and every loss with state over ranks, where one rank has no boxes.

Two gloo ranks on the loopback interface take three steps, or refuse the pair when it is built.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.registry import MODELS
from mmengine.dist import all_reduce_params
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from helpers import matrix_feeds as feeds
from helpers.forkserver import run_ranks
from helpers.matrix import FITTING, Loss
from helpers.matrix_head import Head

pytestmark = pytest.mark.filterwarnings('ignore')

RANKS, STEPS = 2, 3
STATEFUL = [
    (head, loss) for head, loss in FITTING if loss.type in ('SlideLossX', 'EqualizedFocalLossX')
]
FEWER_CALLS = {'YOLOXHead', 'DINOHead', 'DDQDETRHead', 'GroundingDINOHead'}
IDS = [f'{head.id}-{loss.type}' for head, loss in STATEFUL]


def build(head: Head, loss: dict[str, Any]) -> Any:
    names = {'loss_cls', *head.loss_names}
    names |= {'loss_cls_fl'} if head.config.get('use_vfl') is False else set()
    losses = {name: dict(loss) for name in names}
    torch.manual_seed(0)
    model = MODELS.build(dict(type=head.type, **copy.deepcopy(dict(head.config)), **losses))
    model.init_weights()
    return model.train()


def total(losses: dict[str, Any]) -> Tensor:
    return sum(
        sum(value) if isinstance(value, (list, tuple)) else value
        for name, value in losses.items()
        if 'loss' in name
    )


def train(head: Head, loss: dict[str, Any]) -> dict[str, Any] | str:
    """Parameters and buffers after the steps, or the reason why the pair is refused."""
    try:
        model = build(head, loss)
    except ValueError as error:
        return str(error)
    for _ in range(STEPS):
        model.zero_grad()
        value = total(head.feed(model, head.strides))
        assert value.isfinite()
        value.backward()
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        all_reduce_params([p.grad for p in parameters], op='mean')
        with torch.no_grad():
            for parameter in parameters:
                parameter -= 1e-3 * parameter.grad.clamp(-1, 1)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def without_boxes(patch: pytest.MonkeyPatch) -> None:
    """Two images without an object, and so without a query for denoising."""
    samples = feeds.samples

    def empty(*_: Any, **settings: Any) -> Any:
        batch = samples(((), ()), settings.get('with_masks', False))
        for sample in batch:
            instances = sample.gt_instances
            instances.bboxes, instances.labels = (
                instances.bboxes.reshape(0, 4),
                instances.labels.long(),
            )
        return batch

    patch.setattr(feeds, 'BOXES', ((), ()))
    patch.setattr(feeds, 'samples', empty)
    patch.setattr(feeds, 'denoising', lambda: dict(num_denoising_queries=0, num_denoising_groups=1))


def run_pairs(rank: int, pairs: list[tuple[Head, Loss]] = STATEFUL) -> list[Any]:
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            without_boxes(patch)
        return [train(head, loss.config(head)) for head, loss in pairs]


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    return run_ranks(run_pairs, RANKS, tmp_path_factory.mktemp('pairs'))


@pytest.mark.parametrize('number', range(len(STATEFUL)), ids=IDS)
def test_pair(number: int, ranks: list[list[Any]]) -> None:
    head, loss = STATEFUL[number]
    with_boxes, without = (records[number] for records in ranks)
    if head.type in FEWER_CALLS:
        for message in (with_boxes, without):
            assert f'{head.type} ' in message and loss.type in message and 'ranks' in message
            assert 'works in every head' in message
        return
    assert not isinstance(with_boxes, str), with_boxes
    torch.testing.assert_close(with_boxes, without, rtol=0, atol=0)
    state = [v for k, v in with_boxes.items() if k.endswith(('running', 'pos_grad'))]
    assert any(bool(value.any()) for value in state)
