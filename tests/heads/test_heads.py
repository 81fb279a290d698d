"""The heads against mmdet's own, and their quality against boxes decoded by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

pytest.importorskip('mmdet')

import mmdet.models  # noqa: F401  (registers)
from mmdet.registry import MODELS

import mmfocalx  # noqa: F401  (registers)
from helpers.predicted_boxes import overlap, rows_by_hand
from helpers.small_heads import (
    FOCAL,
    HEADS,
    KINDS,
    METAS,
    RETINA,
    STRIDES,
    VARIFOCAL,
    Recorder,
    batch,
    box_loss,
    build,
    gradients,
    losses_of,
)
from mmfocalx.models.targets import Matched, Owners, Positives


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


@pytest.mark.parametrize('boxes_per_image', [0, 4])
@pytest.mark.parametrize('loss', [FOCAL, dict(FOCAL, type='FocalLossX')])
@pytest.mark.parametrize('batched', [True, False])
@pytest.mark.parametrize('kind', HEADS)
def test_no_quality_equals_mmdet(kind, batched, loss, boxes_per_image):
    """To the last bit with mmdet's targets; targets at once have their losses summed at once.

    FoveaHeadX always has its own sums, as mmdet's head does not average over ranks.
    """
    same_sums = not batched and kind != 'FoveaHead'
    close = dict(rtol=0, atol=0) if same_sums else dict(rtol=2e-5, atol=1e-7)
    features, instances = batch(boxes_per_image)
    theirs = build(kind, loss_cls=loss)
    ours = build(f'{kind}X', loss_cls=loss, quality='none', batched_targets=batched)
    expected, got = losses_of(theirs, features, instances), losses_of(ours, features, instances)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, **close)
    for theirs_grad, ours_grad in zip(
        gradients(theirs, sum(expected.values())), gradients(ours, sum(got.values())), strict=True
    ):
        if theirs_grad is None:  # FoveaHead without objects
            theirs_grad = torch.zeros_like(ours_grad)
        torch.testing.assert_close(ours_grad, theirs_grad, **close)


@pytest.mark.parametrize(
    ('kind', 'extra'),
    [
        ('RetinaHead', {}),
        ('RetinaHead', {'reg_decoded_bbox': True}),
        ('FCOSHead', {}),
        ('ATSSHead', {}),
        ('RepPointsHead', {}),
    ],
)
def test_score_sum_of_hard_labels_is_the_number_of_positives(kind, extra):
    """The losses of all levels at once, against mmdet's level by level."""
    features, instances = batch()
    expected = losses_of(build(kind, loss_cls=FOCAL, **extra), features, instances)
    ours = build(f'{kind}X', loss_cls=FOCAL, quality='none', normalizer='score_sum', **extra)
    for name, value in losses_of(ours, features, instances).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize('quality', ['iou', 'giou'])
@pytest.mark.parametrize('kind', KINDS)
def test_quality_is_the_overlap_of_the_decoded_boxes(kind, quality):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL, quality=quality)
    head.loss_cls = Recorder(head.loss_cls)
    losses_of(head, features, instances)
    (call,) = head.loss_cls.calls
    labels, scores = call[1]
    assert len(labels) == len(call[0]) == len(rows_by_hand(kind, head, features))
    positives = 0
    for label, score, (image, box) in zip(
        labels.tolist(), scores.tolist(), rows_by_hand(kind, head, features), strict=True
    ):
        if label == 3:
            assert score == 0
            continue
        positives += 1
        candidates = [
            max(overlap(box, truth, quality), 1e-6)
            for truth, truth_label in zip(
                instances[image].bboxes.tolist(), instances[image].labels.tolist(), strict=True
            )
            if truth_label == label
        ]
        assert min(abs(score - candidate) for candidate in candidates) < 1e-5
    assert positives > 10
    assert len(set(scores.tolist())) > 5


@pytest.mark.parametrize('kind', KINDS)
def test_quality_carries_no_gradient_to_the_boxes(kind):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL)
    loss = losses_of(head, features, instances)['loss_cls']
    reached = {
        name
        for (name, _), grad in zip(head.named_parameters(), gradients(head, loss), strict=True)
        if grad is not None and grad.abs().sum() > 0
    }
    assert any('cls' in name for name in reached)
    # The initial points tell RepPoints's classification where to look, in mmdet as well.
    of_boxes = ('reg', 'scale') if kind != 'RepPointsHeadX' else ('refine', 'moment')
    assert not any(part in name for part in of_boxes for name in reached)


@pytest.mark.parametrize('normalizer', ['num_pos', 'score_sum'])
@pytest.mark.parametrize('kind', KINDS)
def test_normalizer(kind, normalizer):
    features, instances = batch()
    head = build(kind, loss_cls=VARIFOCAL, normalizer=normalizer)
    head.loss_cls = Recorder(head.loss_cls)
    losses_of(head, features, instances)
    _, (labels, scores), _, avg_factor = head.loss_cls.calls[0]
    expected = (labels < 3).sum() if normalizer == 'num_pos' else scores.sum()
    if (kind, normalizer) == ('FoveaHeadX', 'num_pos'):
        expected += len(METAS)
    assert float(avg_factor) == pytest.approx(float(expected), rel=1e-6)
    assert float(avg_factor) > 1


@pytest.mark.parametrize('loss', ['VarifocalLossX', 'QualityFocalLossX', 'QualityFocalLoss'])
@pytest.mark.parametrize('kind', KINDS)
def test_images_without_boxes(kind, loss):
    features, instances = batch(boxes_per_image=0)
    head = build(kind, loss_cls=dict(type=loss, use_sigmoid=True))
    losses = losses_of(head, features, instances)
    assert all(torch.isfinite(value) for value in losses.values())
    assert box_loss(losses) == 0
    for grad in gradients(head, sum(losses.values())):
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_overlaps_of_large_boxes_in_half_precision(dtype):
    head = build('RetinaHeadX', loss_cls=VARIFOCAL)
    boxes = torch.tensor([[300.0, 300.0, 900.0, 900.0], [0.0, 0.0, 1e4, 1e4]], dtype=dtype)
    matched = Matched(
        labels=torch.tensor([0, 3, 1]),
        positives=Positives.of(torch.tensor([True, False, True])),
        owners=Owners(torch.tensor([1, 1]), (1,)),
        priors=boxes,
        boxes=boxes,
        box_weights=torch.ones(2),
        num_pos=2,
    )
    (labels, scores), total = head.cls_target(matched, boxes)
    assert scores.tolist() == [1, 0, 1]
    assert total == 2
    assert labels.tolist() == [0, 3, 1]


@pytest.mark.parametrize('kind', ['FCOSHeadX', 'ATSSHeadX'])
def test_without_centerness(kind):
    features, instances = batch()
    whole = build(kind, loss_cls=VARIFOCAL)
    bare = build(kind, loss_cls=VARIFOCAL, centerness=False)
    assert not any('centerness' in name for name, _ in bare.named_parameters())
    missing = bare.load_state_dict(whole.state_dict(), strict=False)
    assert missing.missing_keys == []
    assert all('_centerness' in name for name in missing.unexpected_keys)
    assert missing.unexpected_keys

    with_branch, without = (losses_of(head, features, instances) for head in (whole, bare))
    assert without.keys() == {'loss_cls', 'loss_bbox'}
    for name, value in without.items():
        assert torch.equal(value, with_branch[name])

    bare.eval()
    with torch.no_grad():
        outs = bare(features)
        assert len(outs) == 2
        (found,) = bare.predict_by_feat(*outs, batch_img_metas=METAS[:1], rescale=False)
        best = max(scores[0].sigmoid().max().item() for scores in outs[0])
    assert found.scores.max().item() == pytest.approx(best, rel=1e-6)


def test_softmax_starts_with_background():
    torch.manual_seed(0)
    loss = dict(type='FocalLossX', use_sigmoid=False)
    head = MODELS.build(
        copy.deepcopy({'type': 'RetinaHeadX', **RETINA, 'loss_cls': loss, 'quality': 'none'})
    )
    head.init_weights()
    scores, _ = head([torch.zeros(1, 8, 4, 4) for _ in STRIDES])
    probability = scores[0].permute(0, 2, 3, 1).reshape(-1, 4).softmax(-1)
    torch.testing.assert_close(probability[:, -1], torch.full((len(probability),), 0.99))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(), ('loss_cls', 'use_sigmoid')),
        (dict(loss_cls=dict(type='VarifocalLossX')), ('loss_cls', 'use_sigmoid')),
        (dict(loss_cls=FOCAL), ('loss_cls', "quality='iou'", 'FocalLoss')),
        (
            dict(loss_cls=dict(type='FocalLossX', use_sigmoid=False)),
            ('loss_cls', "quality='iou'", 'sigmoid'),
        ),
        (dict(loss_cls=VARIFOCAL, quality='diou'), ('quality', 'giou', 'diou')),
        (dict(loss_cls=VARIFOCAL, normalizer='mean'), ('normalizer', 'score_sum', 'mean')),
    ],
)
def test_errors_name_the_argument(kind, settings, words):
    with pytest.raises(ValueError, match='Expected argument') as caught:
        build(kind, **settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize('kind', ['FCOSHeadX', 'ATSSHeadX'])
def test_centerness_must_be_a_bool(kind):
    with pytest.raises(TypeError, match='`centerness`'):
        build(kind, loss_cls=VARIFOCAL, centerness='no')


def test_atss_compares_boxes():
    with pytest.raises(ValueError, match=r'`reg_decoded_bbox`.*True.*False'):
        build('ATSSHeadX', loss_cls=VARIFOCAL, reg_decoded_bbox=False)
