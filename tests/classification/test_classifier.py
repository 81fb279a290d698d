"""The classifier: features to logits to any loss, scores that sum up, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

import mmfocalx  # noqa: F401  (registers)
from mmfocalx.losses.catalogue import classification_losses

K, CLASSES, IMAGES = 5, 3, 8


@pytest.fixture(scope='module', autouse=True)
def _backbone():
    """Registered for these tests only: three maps, of which the last one counts."""

    class TinyBackbone(BaseModule):
        def __init__(self, kind='maps', channels=K):
            super().__init__()
            self.kind, self.conv = kind, nn.Conv2d(3, channels, 3)

        def forward(self, x):
            last = self.conv(x).relu()
            if self.kind == 'vectors':
                return last.amax(dim=(2, 3))
            return (x, x, last) if self.kind == 'maps' else last

    MODELS.register_module(module=TinyBackbone)
    yield
    MODELS.module_dict.pop('TinyBackbone')


def build(loss, **settings):
    torch.manual_seed(0)
    settings = {'backbone': dict(type='TinyBackbone'), 'num_classes': CLASSES, **settings}
    return MODELS.build(dict(type='ImageClassifierX', in_channels=K, loss_cls=loss, **settings))


def batch(classes=CLASSES):
    g = torch.Generator().manual_seed(1)
    samples = []
    for i in range(IMAGES):
        sample = BaseDataElement(metainfo=dict(img_path=f'{i}.png'))
        sample.set_data(dict(gt_label=i % classes))
        samples.append(sample)
    return torch.randn(IMAGES, 3, 6, 6, generator=g), samples


CROSS_ENTROPY = dict(type='torch.nn.CrossEntropyLoss')
FOCAL = dict(type='FocalLossX', use_sigmoid=True)
SOFTMAX_FOCAL = dict(type='FocalLossX', use_sigmoid=False)


def log_softmax_of(row):
    total = math.log(math.fsum(math.exp(x) for x in row))
    return [x - total for x in row]


def test_loss_is_that_of_the_logits_and_labels_of_the_batch():
    model = build(CROSS_ENTROPY).double()
    inputs, samples = batch()
    rows = model(inputs.double()).tolist()
    expected = -math.fsum(
        log_softmax_of(row)[s.gt_label] for row, s in zip(rows, samples, strict=True)
    )
    losses = model(inputs.double(), samples, mode='loss')
    assert [*losses] == ['loss_cls']
    assert losses['loss_cls'].item() == pytest.approx(expected / IMAGES, rel=1e-12)


def test_one_logit_is_called_with_zeros_and_ones():
    """Class 1 is the positive one: its alpha is alpha, that of class 0 is 1 - alpha."""
    model = build(dict(FOCAL, alpha=0.9), num_classes=2, one_logit=True).double()
    inputs, samples = batch(2)
    logits = model(inputs.double())
    assert logits.shape == (IMAGES,)
    expected = []
    for x, sample in zip(logits.tolist(), samples, strict=True):
        p = 1 / (1 + math.exp(-x))
        alpha, p_t = (0.9, p) if sample.gt_label == 1 else (0.1, 1 - p)
        expected.append(alpha * (1 - p_t) ** 2 * -math.log(p_t))
    loss = model(inputs.double(), samples, mode='loss')['loss_cls']
    assert loss.item() == pytest.approx(math.fsum(expected) / IMAGES, rel=1e-12)


@pytest.mark.parametrize('name', [*classification_losses()])
def test_every_loss_of_the_package_trains_it(name):
    loss = classification_losses()[name].example_config(CLASSES)
    model = build(loss)
    found = model(*batch(), mode='loss')['loss_cls']
    found.backward()
    assert found.isfinite() and model.linear.weight.grad.any()
    assert model.use_sigmoid


@pytest.mark.parametrize(
    ('loss', 'use_sigmoid'),
    [
        (CROSS_ENTROPY, False),
        (dict(type='torch.nn.BCEWithLogitsLoss'), True),
        (SOFTMAX_FOCAL, False),
        (dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False), False),
        (dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True), True),
    ],
)
def test_losses_of_torch_and_mmdet_train_it(loss, use_sigmoid):
    if loss['type'].startswith('mmdet.'):
        pytest.importorskip('mmdet.models')
    model = build(loss)
    found = model(*batch(), mode='loss')['loss_cls']
    found.backward()
    assert found.isfinite() and model.linear.weight.grad.any()
    assert model.use_sigmoid == use_sigmoid


@pytest.mark.parametrize('kind', ['maps', 'map', 'vectors'])
def test_the_last_output_of_a_backbone_is_pooled(kind):
    model = build(CROSS_ENTROPY, backbone=dict(type='TinyBackbone', kind=kind))
    inputs, _ = batch()
    features = model.backbone.conv(inputs).relu()
    pooled = features.amax(dim=(2, 3)) if kind == 'vectors' else features.mean(dim=(2, 3))
    torch.testing.assert_close(model(inputs), model.linear(pooled))


@pytest.mark.parametrize(
    ('loss', 'one_logit'), [(SOFTMAX_FOCAL, False), (FOCAL, False), (FOCAL, True)]
)
def test_scores_and_labels_of_a_prediction(loss, one_logit):
    classes = 2 if one_logit else CLASSES
    model = build(loss, num_classes=classes, one_logit=one_logit).eval()
    inputs, samples = batch(classes)
    logits = model(inputs).tolist()
    for row, sample in zip(logits, model(inputs, samples, mode='predict'), strict=True):
        if one_logit:
            p = 1 / (1 + math.exp(-row))
            expected = [1 - p, p]
        elif model.use_sigmoid:
            expected = [1 / (1 + math.exp(-x)) for x in row]
        else:
            expected = [math.exp(x) for x in log_softmax_of(row)]
        assert sample.pred_scores.tolist() == pytest.approx(expected, abs=1e-6)
        assert sample.pred_label == expected.index(max(expected))


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(num_classes=1), ValueError, '`num_classes` to be an integer of at least 2'),
        (dict(one_logit=True), ValueError, '`num_classes` to be 2 with one_logit=True, but got 3'),
        (dict(one_logit=1), TypeError, '`one_logit`'),
        (
            dict(loss=SOFTMAX_FOCAL, num_classes=2, one_logit=True),
            ValueError,
            '`loss_cls` to be a sigmoid loss with one_logit=True',
        ),
        (dict(loss=dict(FOCAL, activated=True)), ValueError, '`loss_cls.activated` to be False'),
        (dict(in_channels=0), ValueError, '`in_channels`'),
    ],
)
def test_a_bad_setting_is_named(settings, error, message):
    settings = {'loss': FOCAL, 'in_channels': K, 'num_classes': CLASSES, **settings}
    config = dict(
        type='ImageClassifierX',
        backbone=dict(type='TinyBackbone'),
        loss_cls=settings.pop('loss'),
        **settings,
    )
    with pytest.raises(error, match=message):
        MODELS.build(config)


def test_what_cannot_be_classified_is_named():
    inputs, samples = batch()
    model = build(FOCAL, backbone=dict(type='TinyBackbone', channels=4))
    with pytest.raises(ValueError, match=r'`in_channels`.*\(8, 4\), but got 5'):
        model(inputs)
    model = build(FOCAL)
    samples[3].gt_label = CLASSES  # of a sigmoid loss: background
    with pytest.raises(ValueError, match='`num_classes` to be more than the label 3, but got 3'):
        model(inputs, samples, mode='loss')
    with pytest.raises(ValueError, match='`data_samples` to be one for each of 8 images'):
        model(inputs, mode='predict')
    with pytest.raises(ValueError, match='`mode`'):
        model(inputs, samples, mode='train')
