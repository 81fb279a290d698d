"""Two gloo ranks on the loopback interface equal one process with the whole batch.

Losses are means over ranks, as DistributedDataParallel averages gradients; every step moves the
parameters, so that what differs once differs ever after.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

pytest.importorskip('mmdet')

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import mmfocalx.losses
from helpers.forkserver import run_ranks
from helpers.small_heads import KINDS, METAS, SIZE, STRIDES, build
from helpers.tracing import compile_by_tracing
from mmfocalx.losses.one_pass import compiled

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

RANKS = 2
CLASSES = 3
LEARNING_RATE = 0.1


class Classifier(nn.Module):
    """A linear layer and a loss of its logits."""

    def __init__(self, loss: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, CLASSES).double()
        settings = dict(loss)
        self.loss = getattr(mmfocalx.losses, settings.pop('type'))(**settings)

    def forward(self, x: Tensor, target: Any, avg_factor: float) -> dict[str, Tensor]:
        return {'loss_cls': self.loss(self.linear(x), target, avg_factor=avg_factor)}

    @staticmethod
    def batch(step: int, rank: int | None) -> tuple[Any, ...]:
        """Rows of a step: 5 on rank 0, 11 on rank 1, whose qualities are lower; or all of them.

        In step 1 rank 1 has no positives, in step 2 no rank has.
        """
        g = torch.Generator().manual_seed(step)
        x = torch.randn(16, 4, generator=g, dtype=torch.float64)
        labels = torch.randint(0, CLASSES + 1, (16,), generator=g)
        quality = torch.rand(16, generator=g, dtype=torch.float64) * 0.3 + 0.05
        quality[:5] += 0.6
        if step in (1, 2):
            labels[5 if step == 1 else 0 :] = CLASSES
        rows = {None: slice(None), 0: slice(0, 5), 1: slice(5, None)}[rank]
        avg_factor = 7.0 if rank is None else 7.0 / RANKS
        return x[rows], (labels[rows], quality[rows]), avg_factor


class Checkpointed(Classifier):
    """The same, which computes logits and loss again in backward."""

    def forward(self, *args: Any) -> dict[str, Tensor]:
        return checkpoint(super().forward, *args, use_reentrant=False)


class Detector(nn.Module):
    """A head, called with features and boxes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        init_default_scope('mmdet')
        MMLogger.get_current_instance().setLevel('ERROR')
        self.head = build(**settings)

    def forward(self, features: list[Tensor], instances: list[Any]) -> dict[str, Tensor]:
        losses = self.head.loss_by_feat(*self.head(features), instances, METAS[:1] * len(instances))
        return {k: sum(v) if isinstance(v, list) else v for k, v in losses.items()}

    @staticmethod
    def batch(step: int, rank: int | None) -> tuple[Any, ...]:
        """Four images, two on each rank; those of rank 1 are without boxes in step 1."""
        g = torch.Generator().manual_seed(step)
        instances = []
        for count in (5, 1, 2, 3) if step != 1 else (4, 2, 0, 0):
            corner = torch.rand(count, 2, generator=g) * 50
            side = torch.rand(count, 2, generator=g) * 35 + 10
            labels = torch.randint(0, CLASSES, (count,), generator=g)
            instances.append(
                InstanceData(bboxes=torch.cat([corner, corner + side], 1), labels=labels)
            )
        features = [torch.randn(4, 8, SIZE // s, SIZE // s, generator=g) for s in STRIDES]
        mine = slice(None) if rank is None else slice(2 * rank, 2 * rank + 2)
        return [level[mine] for level in features], instances[mine]


def train(model: nn.Module, steps: int, rank: int | None = None) -> list[dict[str, Any]]:
    """Of every step: losses, gradients, and the buffers as they are when the loss reads them."""
    module = model if rank is None else DistributedDataParallel(model)
    records = []
    for step in range(steps):
        module.zero_grad()
        losses = module(*model.batch(step, rank))
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        sum(losses.values()).backward()
        grads = {name: value.grad.clone() for name, value in model.named_parameters()}
        records.append(
            {
                'losses': {name: value.detach() for name, value in losses.items()},
                'grads': grads,
                'buffers': buffers,
            }
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= LEARNING_RATE * parameter.grad
    return records


NORMALIZERS = ['num_pos', 'score_sum']
VARIFOCAL = dict(type='VarifocalLossX', use_sigmoid=True)
RANK_SORT = dict(type='RankSortLossX', use_sigmoid=True)
SLIDE = dict(type='SlideLossX', use_sigmoid=True, momentum=0.75)
EQUALIZED = dict(type='EqualizedFocalLossX', use_sigmoid=True, num_classes=CLASSES)
SCENARIOS: dict[str, tuple[type, dict[str, Any], int]] = {
    'slide': (Classifier, dict(SLIDE, momentum=0.0), 5),
    'slide with momentum': (Classifier, SLIDE, 5),
    'equalized focal': (Classifier, EQUALIZED, 6),
    'slide, checkpointed': (Checkpointed, SLIDE, 5),
    'equalized focal, checkpointed': (Checkpointed, EQUALIZED, 6),
    'rank and sort': (Classifier, RANK_SORT, 3),
    'balanced boxes': (
        Detector,
        dict(kind='ATSSHeadX', loss_cls=RANK_SORT, box_balance='self', centerness=False),
        2,
    ),
    'fused': (Classifier, dict(SLIDE, fused=True), 5),
    **{
        f'{kind} {normalizer} {loss["type"]}': (
            Detector,
            dict(kind=kind, loss_cls=loss, quality='iou', normalizer=normalizer),
            2,
        )
        for kind in KINDS
        for normalizer in NORMALIZERS
        for loss in (VARIFOCAL, SLIDE)
    },
    **{
        f'{kind} scaled by {scale}': (
            Detector,
            dict(kind=kind, loss_cls=VARIFOCAL, quality_scale=scale, normalizer='score_sum'),
            2,
        )
        for kind in KINDS
        for scale in ('image', 'object')
    },
    **{  # RetinaNet's head then calls the loss once per level
        f'{kind} hard labels': (Detector, dict(kind=kind, loss_cls=EQUALIZED, quality='none'), 3)
        for kind in KINDS
    },
}


def run_scenarios(rank: int) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        compile_by_tracing(patch)
        records = {
            name: train(kind(settings), steps, rank)
            for name, (kind, settings, steps) in SCENARIOS.items()
        }
        assert len(compiled._kernels) == 1  # of the scenario that asks for it
        return records


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each rank recorded in each scenario."""
    return run_ranks(run_scenarios, RANKS, tmp_path_factory.mktemp('ranks'))


def compare(ranks: list[Any], scenario: str, rtol: float, *, scale: float = 1.0) -> None:
    """``scale``: what the buffers of the ranks are to those of one process."""
    kind, settings, steps = SCENARIOS[scenario]
    one = train(kind(settings), steps)
    for step, (expected, *got) in enumerate(
        zip(one, *(records[scenario] for records in ranks), strict=True)
    ):
        losses = {
            name: torch.stack([record['losses'][name] for record in got]).mean()
            for name in expected['losses']
        }
        assert_equal(losses, expected['losses'], rtol, f'step {step}')
        for record in got:
            assert_equal(record['grads'], expected['grads'], rtol, f'gradient of step {step}')
            scaled = {name: scale * value for name, value in expected['buffers'].items()}
            assert_equal(record['buffers'], scaled, rtol, f'step {step}')


def assert_equal(
    got: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, where: str
) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        error = (got[name] - value).abs().max()
        assert error <= rtol * value.abs().max() + 1e-9, f'{where}: {name} is off by {error:g}'


@pytest.mark.parametrize('scenario', ['slide', 'slide with momentum', 'slide, checkpointed'])
def test_slide(scenario: str, ranks: list[Any]) -> None:
    compare(ranks, scenario, 1e-6)


def test_one_pass(ranks: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks compile; the one process that they are compared with does not."""
    monkeypatch.setenv('MMFOCALX_FUSED', '0')
    compare(ranks, 'fused', 1e-6)


@pytest.mark.parametrize('scenario', ['equalized focal', 'equalized focal, checkpointed'])
def test_equalized_focal(scenario: str, ranks: list[Any]) -> None:
    """The logits' gradients are those before DistributedDataParallel divides by the ranks."""
    compare(ranks, scenario, 1e-6, scale=RANKS)


@pytest.mark.parametrize('loss', ['VarifocalLossX', 'SlideLossX'])
@pytest.mark.parametrize('normalizer', NORMALIZERS)
@pytest.mark.parametrize('kind', KINDS)
def test_head(kind: str, normalizer: str, loss: str, ranks: list[Any]) -> None:
    compare(ranks, f'{kind} {normalizer} {loss}', 1e-4)


@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', KINDS)
def test_head_with_scaled_qualities(kind: str, scale: str, ranks: list[Any]) -> None:
    compare(ranks, f'{kind} scaled by {scale}', 1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_head_with_hard_labels(kind: str, ranks: list[Any]) -> None:
    compare(ranks, f'{kind} hard labels', 1e-4, scale=RANKS)


def test_every_rank_ranks_its_own_batch(ranks: list[Any]) -> None:
    """Also where one of them, or all, are without positives."""
    model = Classifier(RANK_SORT)
    for step in range(3):
        model.zero_grad()
        losses = [model(*model.batch(step, rank))['loss_cls'] for rank in range(RANKS)]
        (sum(losses) / RANKS).backward()
        grads = {name: value.grad for name, value in model.named_parameters()}
        for loss, records in zip(losses, ranks, strict=True):
            record = records['rank and sort'][step]
            assert_equal(record['losses'], {'loss_cls': loss.detach()}, 1e-6, f'step {step}')
            assert_equal(record['grads'], grads, 1e-6, f'gradient of step {step}')
        assert [bool(loss > 0) for loss in losses] == [step < 2, step < 1]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= LEARNING_RATE * parameter.grad


def test_every_rank_balances_its_own_boxes(ranks: list[Any]) -> None:
    for rank, records in enumerate(ranks):
        for step, record in enumerate(records['balanced boxes']):
            loss_cls, loss_bbox = (record['losses'][f'loss_{name}'] for name in ('cls', 'bbox'))
            has_boxes = (rank, step) != (1, 1)
            assert bool(loss_cls > 0) == has_boxes
            torch.testing.assert_close(loss_bbox, loss_cls)
    first, second = (records['balanced boxes'][1]['grads'] for records in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(value.isfinite().all() for value in first.values())
