"""What the loss layer sends between ranks in one step, counted on four gloo ranks.

docs/many-devices.md computes its plan for more ranks from these numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')

from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from helpers.forkserver import run_ranks
from helpers.small_heads import METAS, VARIFOCAL, batch, build

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

RANKS = 4
COLLECTIVES = (
    'all_gather',
    'all_gather_into_tensor',
    'all_gather_object',
    'all_reduce',
    'all_to_all',
    'all_to_all_single',
    'barrier',
    'broadcast',
    'broadcast_object_list',
    'gather',
    'gather_object',
    'reduce',
    'reduce_scatter',
    'reduce_scatter_tensor',
    'scatter',
)
CLASSES = (3, 80)


def focal(classes: int) -> dict[str, Any]:
    return dict(loss_cls=dict(type='FocalLossX', use_sigmoid=True), quality='none')


def varifocal(classes: int) -> dict[str, Any]:
    return dict(loss_cls=VARIFOCAL, quality='iou')


def score_sum(classes: int) -> dict[str, Any]:
    return dict(varifocal(classes), normalizer='score_sum')


def slide(classes: int) -> dict[str, Any]:
    return dict(loss_cls=dict(type='SlideLossX', use_sigmoid=True), quality='iou')


def equalized(classes: int) -> dict[str, Any]:
    loss = dict(type='EqualizedFocalLossX', use_sigmoid=True, num_classes=classes)
    return dict(loss_cls=loss, quality='none')


# all-reduces and their bytes in a step of RetinaHeadX; FCOSHeadX has one more, of 4 bytes.
EXPECTED = {
    focal: lambda classes: (1, 4),
    varifocal: lambda classes: (1, 4),
    score_sum: lambda classes: (2, 8),
    slide: lambda classes: (2, 4 + 8),
    equalized: lambda classes: (2, 4 + 8 * classes),
}


def count(rank: int) -> dict[Any, tuple[Counter[str], int]]:
    """Calls by name, and bytes, of a step of each head, settings and number of classes."""
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')
    counted: dict[Any, tuple[Counter[str], int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        calls: list[tuple[str, int]] = []
        for name in COLLECTIVES:
            original = getattr(torch.distributed, name)

            def record(*args: Any, _name: str = name, _original: Any = original, **kwargs: Any):
                tensor = kwargs.get('tensor', args[0] if args else None)
                size = tensor.nbytes if isinstance(tensor, torch.Tensor) else 0
                calls.append((_name, size))
                return _original(*args, **kwargs)

            patch.setattr(torch.distributed, name, record)
        for kind in ('RetinaHeadX', 'FCOSHeadX'):
            for settings in EXPECTED:
                for classes in CLASSES:
                    head = build(kind, num_classes=classes, **settings(classes))
                    features, instances = batch(4 - rank)
                    calls.clear()
                    losses = head.loss_by_feat(*head(features), instances, METAS)
                    total = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
                    total.backward()
                    counted[kind, settings.__name__, classes] = (
                        Counter(name for name, _ in calls),
                        sum(size for _, size in calls),
                    )
    return counted


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(count, RANKS, tmp_path_factory.mktemp('ranks'))


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('settings', EXPECTED)
@pytest.mark.parametrize('kind', ['RetinaHeadX', 'FCOSHeadX'])
def test_calls_and_bytes(kind: str, settings: Any, classes: int, ranks: list[Any]) -> None:
    calls, size = EXPECTED[settings](classes)
    if kind == 'FCOSHeadX':  # the sum of the centerness targets
        calls, size = calls + 1, size + 4
    for rank in ranks:
        assert rank[kind, settings.__name__, classes] == (Counter(all_reduce=calls), size)
