"""Beside the matching, the host waits for nothing: tensors of the device meta have no values."""

from __future__ import annotations

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')

from mmdet.models.task_modules import AssignResult

from helpers.small_detr_heads import FOCAL, OURS, THEIRS, build
from mmfocalx.losses.catalogue import classification_losses

CLASSES = 3
METAS = [dict(img_shape=(80, 96))] * 2
LOSSES = sorted(
    name for name, loss in classification_losses().items() if not loss.waits_for_positives
)
DENOISING = dict(num_denoising_queries=16, num_denoising_groups=2)
COUNTS = ((4, 1), (0, 3), (0, 0))


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


class WithoutValues:
    """An assigner that reads no value: each query is matched with the first object, or none."""

    def assign(self, pred_instances, gt_instances, img_meta):
        matched = torch.zeros(len(pred_instances), dtype=torch.long, device='meta')
        return AssignResult(len(gt_instances), matched, max_overlaps=None, labels=None)


def on_meta(kind, **settings):
    head = build(kind, **settings).to('meta')
    head.assigner = WithoutValues()
    return head


def calls(head, counts):
    """The losses of matched and of denoising queries."""
    objects = [
        InstanceData(
            bboxes=torch.rand(count, 4, device='meta'),
            labels=torch.zeros(count, dtype=torch.long, device='meta'),
        )
        for count in counts
    ]
    scores, boxes = (
        torch.rand(2, 16, size, device='meta', requires_grad=True) for size in (CLASSES, 4)
    )
    yield head.loss_by_feat_single(scores, boxes, objects, METAS)
    if hasattr(head, 'loss_dn'):
        of_layers = head.loss_dn(scores[None], boxes[None], objects, METAS, DENOISING)
        yield tuple(loss for (loss,) in of_layers)


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('kind', ['DETRHeadX', 'DINOHeadX'])
def test_no_value_is_read(kind, loss):
    head = on_meta(kind, loss_cls=classification_losses()[loss].example_config(CLASSES))
    for head.quality in ('iou', 'giou', 'none'):
        for counts in COUNTS:
            for losses in calls(head, counts):
                assert all(value.shape == () for value in losses)
                sum(losses).backward()


@pytest.mark.parametrize('scale', ['image', 'object'])
@pytest.mark.parametrize('kind', OURS)
def test_no_scale_and_no_balance_reads_a_value(kind, scale):
    loss = dict(type='VarifocalLossX', use_sigmoid=True)
    settings = dict(quality_scale=scale, box_balance='self', sync_cls_avg_factor=True)
    head = on_meta(kind, loss_cls=loss, **settings)
    for counts in COUNTS:
        assert all(value.shape == () for losses in calls(head, counts) for value in losses)


@pytest.mark.parametrize('kind', THEIRS)
def test_mmdets_heads_read_values(kind):
    """So the tests above can fail."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        [*calls(on_meta(kind, loss_cls=FOCAL), (4, 1))]
