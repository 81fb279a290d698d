"""Heads of the DETR family on two gloo ranks are those of one process with all the images.

The loss of a rank is its sum over the mean number of positives of the ranks, so the average of
the gradients over the ranks is that of one process, also where a rank has no object at all.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

pytest.importorskip('mmdet')

from mmengine.dist import all_reduce_params

from helpers.forkserver import run_ranks
from helpers.small_detr_heads import OURS, build

SIZE, QUERIES, CLASSES, GROUPS = 100, 8, 3, 2
# Objects in each image of rank 0 and of rank 1.
BATCHES = {
    'even': ((3, 1), (2, 2)),
    'one rank without objects': ((4, 2), (0, 0)),
    'uneven last batch': ((3, 1), (2,)),
}
WITHOUT_DENOISING = 'one rank without a denoising query'
LOSSES = {
    'varifocal': dict(type='VarifocalLossX', use_sigmoid=True),
    'slide': dict(type='SlideLossX', use_sigmoid=True),
    'equalized focal': dict(type='EqualizedFocalLossX', use_sigmoid=True, num_classes=CLASSES),
}


def batch(counts: Any, rank: int | None) -> tuple[list[Any], list[Any], Tensor, Tensor]:
    """Objects, meta information and, for every image, logits and boxes of its queries."""
    g = torch.Generator().manual_seed(1)
    flat = sum(counts, ())
    objects = []
    for count in flat:
        corner = torch.rand(count, 2, generator=g) * 50
        boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=g) * 40 + 8], 1)
        labels = torch.randint(0, CLASSES, (count,), generator=g)
        objects.append(InstanceData(bboxes=boxes, labels=labels))
    queries = QUERIES + 2 * GROUPS * max(flat)
    logits = torch.randn(len(flat), queries, CLASSES, generator=g)
    boxes = torch.rand(len(flat), queries, 4, generator=g) * 0.5 + 0.2
    first = len(counts[0])
    mine = {None: slice(None), 0: slice(first), 1: slice(first, None)}[rank]
    metas = [dict(img_shape=(SIZE, SIZE))] * len(flat)
    return objects[mine], metas[mine], logits[mine], boxes[mine]


def losses_of(head: Any, kind: str, name: str, rank: int | None) -> Tensor:
    """Of matched queries, and of denoising queries."""
    counts = BATCHES.get(name, BATCHES['one rank without objects'])
    objects, metas, logits, boxes = batch(counts, rank)
    # A head's weights are those that the ranks average: here a scale and a shift of the logits.
    logits, boxes = logits * head.scale + head.shift, (boxes * head.stretch).clamp(max=0.9)
    found = [*head.loss_by_feat_single(logits[:, :QUERIES], boxes[:, :QUERIES], objects, metas)]
    if 'DINO' in kind or 'DDQ' in kind:
        count = 2 * GROUPS * max(max(of_rank) for of_rank in counts)
        if name == WITHOUT_DENOISING and rank == 1:
            count = 0
        meta = dict(num_denoising_queries=count, num_denoising_groups=GROUPS)
        dn = slice(QUERIES, QUERIES + count)
        for one in head.loss_dn(logits[None, :, dn], boxes[None, :, dn], objects, metas, meta):
            found.append(one[0])
    return torch.stack(found)


def steps(rank: int | None) -> dict[Any, Any]:
    """Losses, gradients and state of each head, loss and batch after two calls."""
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')
    found = {}
    for kind in OURS:
        for loss, config in LOSSES.items():
            for name in (*BATCHES, WITHOUT_DENOISING):
                settings = dict(sync_cls_avg_factor=True, quality_scale='none')
                head = build(kind, loss_cls=config, **settings)
                for part in ('scale', 'shift', 'stretch'):
                    value = torch.tensor(0.1 if part == 'shift' else 0.9)
                    head.register_parameter(part, torch.nn.Parameter(value))
                parameters = [head.scale, head.shift, head.stretch]
                for _ in range(2):
                    losses = losses_of(head, kind, name, rank)
                    grads = [*torch.autograd.grad(losses.sum(), parameters)]
                values = [losses.detach(), *grads]
                if rank is not None:
                    all_reduce_params(values, op='mean')
                state = [getattr(head.loss_cls, part, None) for part in ('running', 'balance')]
                found[kind, loss, name] = values, [each for each in state if each is not None]
    for kind in OURS if rank is not None else ():
        extra = dict(sync_cls_avg_factor=True)
        heads = build(kind, quality='none', **extra), build(kind.removesuffix('X'), **extra)
        objects, metas, logits, boxes = batch(((1,), (0,)), rank)
        found[kind] = [head.loss_by_feat_single(logits, boxes, objects, metas) for head in heads]
    return found


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_ranks(steps, 2, tmp_path_factory.mktemp('ranks'))


@pytest.fixture(scope='module')
def one_process() -> Any:
    return steps(None)


@pytest.mark.parametrize('name', BATCHES)
@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('kind', OURS)
def test_two_ranks_are_one_process(kind, loss, name, ranks, one_process):
    expected, state = one_process[kind, loss, name]
    assert all(value.any() for value in expected) and len(state) == (loss != 'varifocal')
    for of_rank in ranks:
        torch.testing.assert_close(
            of_rank[kind, loss, name], (expected, state), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('kind', ['DINOHeadX', 'DDQDETRHeadX'])
def test_a_rank_without_a_denoising_query_waits_for_none(kind, loss, ranks):
    one, other = (of_rank[kind, loss, WITHOUT_DENOISING] for of_rank in ranks)
    assert all(value.isfinite().all() for value in one[0])
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize('kind', OURS)
def test_fewer_objects_than_ranks_as_in_mmdet(kind, ranks):
    for of_rank in ranks:
        for ours, theirs in zip(*of_rank[kind], strict=True):
            torch.testing.assert_close(ours, theirs.squeeze(), rtol=2e-5, atol=1e-7)
