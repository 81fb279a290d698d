"""The scores that the heads of the DETR family hand over, against loops over boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

pytest.importorskip('mmdet')

from helpers.small_detr_heads import OURS, VARIFOCAL, Recorder, build
from mmfocalx.models.targets import Positives

CLASSES, QUERIES = 3, 9
SIZES = ((96, 160), (64, 48))
BOXES = (
    ((2, 2, 34, 36), (28, 24, 60, 60), (70, 8, 150, 70), (28, 24, 60, 60)),
    ((6, 10, 40, 46), (20, 30, 44, 60)),
)
LABELS = ((0, 2, 1, 2), (1, 1))
IN_GROUP, GROUPS = 8, 3
DENOISING = dict(num_denoising_queries=IN_GROUP * GROUPS, num_denoising_groups=GROUPS)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


@pytest.fixture(params=['the positives', 'all rows'])
def _rows(request, monkeypatch):
    if request.param == 'all rows':  # as on a GPU
        monkeypatch.setattr(Positives, 'of', lambda mask: Positives(mask, slice(None), mask))


class Row(NamedTuple):
    """A query: its image, its object, which is None for background, and its box in pixels."""

    image: int
    owner: int | None
    box: tuple[float, ...]


def batch() -> tuple[list[Any], list[dict[str, Any]]]:
    objects = [
        InstanceData(bboxes=torch.tensor(boxes).float(), labels=torch.tensor(labels))
        for boxes, labels in zip(BOXES, LABELS, strict=True)
    ]
    return objects, [dict(img_shape=size) for size in SIZES]


def predictions(queries: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    scores = torch.randn(len(SIZES), queries, CLASSES, generator=g)
    centre = torch.rand(len(SIZES), queries, 2, generator=g) * 0.5 + 0.25
    side = torch.rand(len(SIZES), queries, 2, generator=g) * 0.4 + 0.1
    return scores, torch.cat([centre, side], 2)


def in_pixels(image: int, box: Tensor) -> tuple[float, ...]:
    (height, width), (x, y, w, h) = SIZES[image], box.tolist()
    return (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height


def overlap(a: tuple[float, ...], b: tuple[float, ...], kind: str) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    iou = width * height / union
    if kind == 'iou':
        return max(iou, 1e-6)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return (iou - (hull - union) / hull + 1) / 2


def matched(head: Any, scores: Tensor, boxes: Tensor, keep: Tensor | None = None) -> Iterator[Row]:
    """The queries, matched by the assigner of the head as mmdet calls it."""
    objects, metas = batch()
    for image, (height, width) in enumerate(SIZES):
        of_image = slice(None) if keep is None else keep[image]
        corners = [in_pixels(image, box) for box in boxes[image][of_image]]
        queries = InstanceData(scores=scores[image][of_image], bboxes=torch.tensor(corners))
        assert queries.bboxes[:, 2].max() < width * 1.5 and queries.bboxes[:, 3].max() < height * 2
        found = head.assigner.assign(queries, objects[image], metas[image]).gt_inds.tolist()
        for number, box in zip(found, corners, strict=True):
            yield Row(image, number - 1 if number > 0 else None, box)


def made_from_objects(boxes: Tensor) -> Iterator[Row]:
    """Denoising queries: of each group the first come from the objects, the others from none."""
    for image, of_image in enumerate(boxes):
        for number, box in enumerate(of_image):
            place = number % IN_GROUP
            owner = place if place < len(LABELS[image]) else None
            yield Row(image, owner, in_pixels(image, box))


def by_hand(rows: list[Row], quality: str, scale: str) -> list[float]:
    plain = [
        0.0 if row.owner is None else overlap(row.box, BOXES[row.image][row.owner], quality)
        for row in rows
    ]
    groups = [(row.image, row.owner if scale == 'object' else None) for row in rows]
    best: dict[Any, float] = {}
    for group, score in zip(groups, plain, strict=True):
        best[group] = max(best.get(group, 0.0), score)
    if scale == 'none':
        return plain
    return [
        score / best[group] if score else 0.0 for group, score in zip(groups, plain, strict=True)
    ]


def assert_handed_over(head: Any, rows: list[Row], quality: str, scale: str) -> None:
    _, (labels, scores), _, divisor = head.loss_cls.calls.pop()
    expected = [CLASSES if row.owner is None else LABELS[row.image][row.owner] for row in rows]
    assert labels.tolist() == expected
    assert float(divisor) == sum(label < CLASSES for label in expected) > 1
    by_loop = torch.tensor(by_hand(rows, quality, scale))
    torch.testing.assert_close(scores, by_loop, rtol=1e-5, atol=1e-7)
    assert scores.max() <= 1
    if scale != 'none':
        assert (scores == 1).sum() >= len(SIZES)


SETTINGS = [(q, s) for q in ('iou', 'giou') for s in ('none', 'image', 'object')]


def recording(kind: str, quality: str, scale: str) -> Any:
    head = build(kind, loss_cls=VARIFOCAL, quality=quality, quality_scale=scale)
    head.loss_cls = Recorder(head.loss_cls)
    return head


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize(('quality', 'scale'), SETTINGS)
@pytest.mark.parametrize('kind', OURS)
def test_matched_queries(kind, quality, scale):
    head = recording(kind, quality, scale)
    scores, boxes = predictions(QUERIES)
    losses = head.loss_by_feat_single(scores, boxes, *batch())
    assert all(value.isfinite() for value in losses)
    rows = [*matched(head, scores, boxes)]
    assert sum(row.owner is not None for row in rows) == 6
    assert_handed_over(head, rows, quality, scale)


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize(('quality', 'scale'), SETTINGS)
@pytest.mark.parametrize('kind', ['DINOHeadX', 'DDQDETRHeadX'])
def test_denoising_queries(kind, quality, scale):
    """With 'object' the best over all groups gets 1, and identical objects stay two."""
    head = recording(kind, quality, scale)
    scores, boxes = predictions(IN_GROUP * GROUPS)
    head.loss_dn(scores[None], boxes[None], *batch(), DENOISING)
    rows = [*made_from_objects(boxes)]
    assert sum(row.owner is not None for row in rows) == GROUPS * 6
    assert_handed_over(head, rows, quality, scale)


@pytest.mark.usefixtures('_rows')
@pytest.mark.parametrize(('quality', 'scale'), SETTINGS)
def test_distinct_queries(quality, scale):
    """Images of which the layer keeps a different number of queries."""
    head = recording('DDQDETRHeadX', quality, scale)
    scores, boxes = predictions(QUERIES)
    first, second = torch.ones(2, 2, QUERIES, dtype=torch.bool)
    first[0, [2, 5]], first[1, [0, 3, 4, 7]], second[0, 1] = False, False, False
    masks = [
        keep[:, None].expand(2, QUERIES, QUERIES).repeat_interleave(4, dim=0)
        for keep in (first, second)
    ]
    head.cache_dict = dict(num_heads=4, distinct_query_mask=masks)
    head.loss_for_distinct_queries(torch.stack([scores] * 3), torch.stack([boxes] * 3), *batch())
    for keep in (second, first, None):
        assert_handed_over(head, [*matched(head, scores, boxes, keep)], quality, scale)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_qualities_in_half_precision(dtype):
    head = recording('DINOHeadX', 'iou', 'none')
    scores, boxes = (each.to(dtype) for each in predictions(IN_GROUP * GROUPS))
    losses = head.loss_dn(scores[None], boxes[None], *batch(), DENOISING)
    assert all(value[0].isfinite() and value[0].dtype == torch.float32 for value in losses)
    assert_handed_over(head, [*made_from_objects(boxes.float())], 'iou', 'none')


def test_the_quality_of_an_object_of_a_pixel_is_not_bent():
    """mmdet divides by an area of at least a millionth of the image."""
    head = recording('DETRHeadX', 'iou', 'none')
    size = 2000
    objects = [InstanceData(bboxes=torch.tensor([[9.0, 9, 10, 10]]), labels=torch.tensor([0]))]
    box = torch.tensor([[[9.5, 9.75, 1, 1.0], [900, 900, 50, 50]]]) / size
    head.loss_by_feat_single(torch.zeros(1, 2, 3), box, objects, [dict(img_shape=(size, size))])
    ((_, (_, scores), _, _),) = head.loss_cls.calls
    assert scores.max() == pytest.approx(0.75 / 1.25, rel=1e-2)
