"""Gradients of whole detectors on two gloo ranks are those of one process with all the images.

DistributedDataParallel averages the gradients of the ranks. The loss of a rank is its sum over the
mean number of positives of the ranks, so the average is the sum of all over the number of all,
however many images and positives a rank has. Batch norm runs on its stored statistics, as those of
a batch are of each rank alone.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import mmfocalx
from helpers.forkserver import run_ranks

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

SIZE = 96
DETECTORS = [
    f'{kind}/{kind}_r18-w16_fpn_{loss}_12e_digit-scenes.py'
    for kind in ('retinanet', 'fcos')
    for loss in ('focal', 'varifocal', 'slide')
] + [
    f'{folder}_r18-w16_fpn_varifocal_12e_digit-scenes.py'
    for folder in ('foveabox/fovea', 'reppoints/reppoints')
]
# Objects in each image of rank 0 and of rank 1.
BATCHES = {
    'even': ((5, 1), (2, 3)),
    'one rank without positives': ((4, 2), (0, 0)),
    'uneven last batch': ((3, 1, 4), (2,)),
    'uneven, the short one without positives': ((3, 0, 4), (0,)),
}


def detector(name: str) -> Any:
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')
    config = Config.fromfile(mmfocalx.config_path(name)).model
    config.backbone.norm_eval = True
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def batch(counts: tuple[tuple[int, ...], tuple[int, ...]], rank: int | None) -> tuple[Tensor, Any]:
    g = torch.Generator().manual_seed(1)
    samples = []
    for count in sum(counts, ()):
        corner = torch.rand(count, 2, generator=g) * 50
        side = torch.rand(count, 2, generator=g) * 30 + 12
        shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
        sample = DetDataSample(metainfo=shape)
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + side], 1),
            labels=torch.randint(0, 10, (count,), generator=g),
        )
        samples.append(sample)
    images = torch.randn(len(samples), 3, SIZE, SIZE, generator=g)
    first = len(counts[0])
    mine = {None: slice(None), 0: slice(first), 1: slice(first, None)}[rank]
    return images[mine], samples[mine]


def gradients(rank: int | None) -> dict[tuple[str, str], tuple[Tensor, dict[str, Tensor]]]:
    """The total loss and the gradient of every parameter, for each detector and batch."""
    found = {}
    for name in DETECTORS:
        model = detector(name)
        module = model if rank is None else MMDistributedDataParallel(model)
        for kind, counts in BATCHES.items():
            module.zero_grad()
            loss, _ = model.parse_losses(module(*batch(counts, rank), mode='loss'))
            loss.backward()
            grads = {key: value.grad.clone() for key, value in model.named_parameters()}
            found[name, kind] = loss.detach(), grads
    return found


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(gradients, 2, tmp_path_factory.mktemp('ranks'))


@pytest.fixture(scope='module')
def one_process() -> Any:
    return gradients(None)


def largest_error(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of any parameter, relative to the largest gradient of that parameter."""
    assert got.keys() == expected.keys()
    return max(
        ((got[key] - value).abs().max() / value.abs().max().clamp(min=1e-6)).item()
        for key, value in expected.items()
    )


@pytest.mark.parametrize('kind', BATCHES)
@pytest.mark.parametrize('name', DETECTORS)
def test_two_ranks_are_one_process(name: str, kind: str, ranks: Any, one_process: Any) -> None:
    loss, expected = one_process[name, kind]
    assert any(value.any() for value in expected.values())
    for rank in ranks:
        assert largest_error(rank[name, kind][1], expected) < 1e-5
    mean = torch.stack([rank[name, kind][0] for rank in ranks]).mean()
    torch.testing.assert_close(mean, loss, rtol=1e-5, atol=1e-6)
