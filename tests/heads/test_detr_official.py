"""The losses of the official codes for given predictions and boxes, through a head.

Each is written here for one logit in Python floats, with ``still`` the probability where the
code takes it as a constant. The matching is known by construction.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

pytest.importorskip('mmdet')

from helpers.small_detr_heads import OURS, build
from mmfocalx.losses import VarifocalLossX

SIZE = 100
# Per image: boxes, and labels.
OBJECTS = (
    (((5.0, 5.0, 45.0, 35.0), (50.0, 20.0, 90.0, 80.0)), (0, 2)),
    (((10.0, 40.0, 60.0, 90.0),), (1,)),
)
# Per image, the object that each query lies at, if any, and by how much its box is shifted.
Query = tuple[int | None, float]
NONE: Query = (None, 0.0)
MATCHED: list[list[Query]] = [
    [NONE, (1, 8.0), NONE, (0, 3.0), NONE],
    [NONE, NONE, (0, 14.0), NONE, NONE],
]
IN_GROUP = 4
DENOISING: list[list[Query]] = [
    [(0, 3.0), (1, 30.0), NONE, NONE, (0, 12.0), (1, 2.0), NONE, NONE],
    [(0, 20.0), NONE, NONE, NONE, (0, 45.0), NONE, NONE, NONE],
]
FAR = (80.0, 1.0, 99.0, 12.0)


class Entry(NamedTuple):
    """A logit, its query's overlap with its object, 0 for none, and the best of its image."""

    x: float
    still: float
    iou: float
    giou: float
    positive: bool
    best_iou: float

    @property
    def p(self) -> float:
        return sigmoid(self.x)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce(p: float, t: float) -> float:
    return -t * math.log(p) - (1 - t) * math.log(1 - p)


def varifocal(e: Entry) -> float:
    """RT-DETR and D-FINE: alpha 0.75, gamma 2; the weights have no gradient."""
    return (e.iou if e.positive else 0.75 * e.still**2) * bce(e.p, e.iou if e.positive else 0.0)


def matchability_aware(e: Entry) -> float:
    """DEIM: gamma 1.5, no alpha."""
    return bce(e.p, e.iou**1.5) if e.positive else e.still**1.5 * bce(e.p, 0.0)


def iou_aware_bce(e: Entry) -> float:
    """RF-DETR, and Align-DETR with one query for each object: alpha 0.25, gamma 2."""
    if not e.positive:
        return -(e.p**2) * math.log(1 - e.p)
    t = max(e.still**0.25 * e.iou**0.75, 0.01)
    return -t * math.log(e.p) - (1 - t) * math.log(1 - e.p)


def position_supervised(e: Entry) -> float:
    """Stable-DINO: IoU to the power of 2, divided by the largest of the image."""
    if not e.positive:
        return 0.75 * e.p**2 * -math.log(1 - e.p)
    t = e.iou**2 / e.best_iou**2
    return 0.25 * (t - e.p) ** 2 * bce(e.p, t)


def giou_aware(e: Entry) -> float:
    """Rank-DETR: (GIoU + 1) / 2, alpha 0.25, gamma 2."""
    if not e.positive:
        return 0.75 * e.p**2 * bce(e.p, 0.0)
    t = (e.giou + 1) / 2
    return 0.25 * abs(t - e.p) ** 2 * bce(e.p, t)


HAS_DETACH = 'detach' in inspect.signature(VarifocalLossX).parameters
OFFICIAL = [
    pytest.param(
        varifocal, dict(type='VarifocalLossX', detach=True), {}, id='RT-DETR, D-FINE',
        marks=pytest.mark.skipif(not HAS_DETACH, reason='VarifocalLossX has no `detach` yet'),
    ),
    pytest.param(matchability_aware, dict(type='MALossX'), {}, id='DEIM'),
    pytest.param(iou_aware_bce, dict(type='IABCELossX'), {}, id='Align-DETR, RF-DETR'),
    pytest.param(
        position_supervised, dict(type='PositionSupervisedLossX'), dict(quality_scale='image'),
        id='Stable-DINO',
    ),
    pytest.param(
        giou_aware, dict(type='PositionSupervisedLossX', exponent=1.0), dict(quality='giou'),
        id='Rank-DETR',
    ),
]  # fmt: skip
Loss = Callable[[Entry], float]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def shifted(box: tuple[float, ...], by: float) -> tuple[float, ...]:
    return box[0] + by, box[1], box[2] + by, box[3]


def overlaps(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, float]:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union, width * height / union - (hull - union) / hull


def corners(image: int, query: Query) -> tuple[float, ...]:
    owner, shift = query
    return FAR if owner is None else shifted(OBJECTS[image][0][owner], shift)


def batch() -> tuple[list[Any], list[dict[str, Any]]]:
    objects = [
        InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels))
        for boxes, labels in OBJECTS
    ]
    return objects, [dict(img_shape=(SIZE, SIZE))] * 2


def predictions(queries: list[list[Query]]) -> tuple[Tensor, Tensor]:
    shape = len(queries), len(queries[0]), 3
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[corners(i, q) for q in of] for i, of in enumerate(queries)]) / SIZE
    centre, side = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return logits.requires_grad_(), torch.cat([centre, side], -1)


def reference(loss: Loss, logits: Tensor, queries: list[list[Query]]) -> tuple[float, Tensor]:
    """The sum over the number of positives, and its gradient by central differences."""
    total, slopes, step = 0.0, torch.zeros_like(logits, dtype=torch.float64), 1e-6
    for image, (boxes, labels) in enumerate(OBJECTS):
        of_query = [
            (0.0, 0.0) if query[0] is None else overlaps(corners(image, query), boxes[query[0]])
            for query in queries[image]
        ]
        best = max(iou for iou, _ in of_query)
        for q, (owner, _) in enumerate(queries[image]):
            for c, x in enumerate(logits[image, q].tolist()):
                positive = owner is not None and labels[owner] == c
                entry = Entry(x, sigmoid(x), *of_query[q], positive, best)
                total += loss(entry)
                right, left = (loss(entry._replace(x=x + s)) for s in (step, -step))
                slopes[image, q, c] = (right - left) / (2 * step)
    positives = sum(owner is not None for of_image in queries for owner, _ in of_image)
    return total / positives, slopes / positives


def assert_equal(got: Tensor, logits: Tensor, expected: tuple[float, Tensor]) -> None:
    value, gradient = expected
    assert got.item() == pytest.approx(value, rel=1e-5)
    (slopes,) = torch.autograd.grad(got, logits)
    torch.testing.assert_close(slopes.double(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(('official', 'loss', 'settings'), OFFICIAL)
@pytest.mark.parametrize('kind', OURS)
def test_matched_queries(kind, official, loss, settings):
    head = build(kind, loss_cls=dict(loss, use_sigmoid=True), **settings)
    logits, boxes = predictions(MATCHED)
    got, _, _ = head.loss_by_feat_single(logits, boxes, *batch())
    assert_equal(got, logits, reference(official, logits.detach(), MATCHED))


@pytest.mark.parametrize(('official', 'loss', 'settings'), OFFICIAL)
@pytest.mark.parametrize('kind', ['DINOHeadX', 'DDQDETRHeadX'])
def test_denoising_queries(kind, official, loss, settings):
    head = build(kind, loss_cls=dict(loss, use_sigmoid=True), **settings)
    logits, boxes = predictions(DENOISING)
    meta = dict(num_denoising_queries=2 * IN_GROUP, num_denoising_groups=2)
    ((got,), _, _) = head.loss_dn(logits[None], boxes[None], *batch(), meta)
    assert_equal(got, logits, reference(official, logits.detach(), DENOISING))


def test_the_best_of_an_image_gets_one_also_where_no_box_overlaps():
    """There, the targets of Stable-DINO's code are 0."""
    loss = dict(type='PositionSupervisedLossX', use_sigmoid=True)
    head = build('DETRHeadX', loss_cls=loss, quality_scale='image')
    queries = [[(0, 60.0), (1, 60.0)], [(0, 60.0), NONE]]
    logits, boxes = predictions(queries)
    got, _, _ = head.loss_by_feat_single(logits, boxes, *batch())

    def to_one(e: Entry) -> float:
        return position_supervised(e._replace(iou=1.0, best_iou=1.0))

    assert_equal(got, logits, reference(to_one, logits.detach(), queries))
