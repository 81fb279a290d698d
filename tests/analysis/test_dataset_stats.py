"""Foreground counts against mmdet's own targets, suggestions against their formulas by hand."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmfocalx.analysis.dataset_cli import main
from mmfocalx.analysis.head_targets import head_targets
from mmfocalx.analysis.suggestions import (
    alpha_of_gamma,
    bias_prior,
    class_alpha,
    effective_weights,
    inverse_weights,
    learning_rate,
    scalar_alpha,
)

CONFIGS = Path(__file__).parents[2] / 'configs'
RETINA = CONFIGS / 'retinanet/retinanet_r18-w16_fpn_focal_12e_digit-scenes.py'
FCOS = CONFIGS / 'fcos/fcos_r18-w16_fpn_focal_12e_digit-scenes.py'
SOFTMAX = CONFIGS / 'retinanet/retinanet_r18-w16_fpn_softmax-focal_12e_digit-scenes.py'
DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
COUNTS = (60, 30, 20, 10, 5, 4, 3, 2, 1, 1)


@pytest.fixture(scope='module')
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen images of two sizes with 136 objects of ten classes, and two crowd regions."""
    rng = np.random.default_rng(0)
    images = [
        dict(id=k + 1, file_name=f'{k}.jpg', width=192 - 40 * (k % 2), height=192)
        for k in range(15)
    ]
    drawn = [label for label, number in enumerate(COUNTS) for _ in range(number)]
    objects = []
    for number, label in enumerate([*drawn, 0, 1]):
        width, height = rng.uniform(8, 70, 2)
        x, y = rng.uniform(0, 150 - width), rng.uniform(0, 190 - height)
        objects.append(
            dict(id=number + 1, image_id=number % 15 + 1, category_id=label + 1,
                 bbox=[x, y, width, height], area=width * height,
                 iscrowd=int(number >= len(drawn)))
        )  # fmt: skip
    categories = [dict(id=k, name=name) for k, name in enumerate(DIGITS, 1)]
    path = tmp_path_factory.mktemp('data') / 'annotations.json'
    path.write_text(json.dumps(dict(images=images, annotations=objects, categories=categories)))
    return path


def samples(annotations: Path) -> list[tuple[DetDataSample, tuple[int, int]]]:
    """The images as the digit scenes' training pipeline packs them, without this package."""
    content = json.loads(annotations.read_text())
    made = []
    for image in content['images']:
        own = [one for one in content['annotations'] if one['image_id'] == image['id']]
        parts = []
        for crowd in (0, 1):
            x, y, w, h = torch.tensor(
                [one['bbox'] for one in own if one['iscrowd'] == crowd]
            ).reshape(-1, 4).T  # fmt: skip
            labels = [one['category_id'] - 1 for one in own if one['iscrowd'] == crowd]
            parts.append(
                InstanceData(
                    bboxes=torch.stack([x, y, x + w, y + h], 1), labels=torch.tensor(labels)
                )
            )
        shape = image['height'], image['width']
        padded = tuple(math.ceil(side / 32) * 32 for side in shape)
        sample = DetDataSample(
            gt_instances=parts[0], ignored_instances=parts[1],
            metainfo=dict(img_shape=shape, pad_shape=padded, batch_input_shape=padded),
        )  # fmt: skip
        made.append((sample, padded))
    return made


def mmdets_head(config: Path, kind: str):
    """The head of mmdet with a config's assigner, anchors and levels."""
    init_default_scope('mmdet')
    model = Config.fromfile(str(config)).model
    settings = {**model.bbox_head, 'train_cfg': model.get('train_cfg'), 'test_cfg': model.test_cfg}
    settings.update(type=kind, loss_cls=dict(type='FocalLoss', use_sigmoid=True))
    for ours in ('quality', 'normalizer', 'batched_targets', 'box_balance', 'quality_scale'):
        settings.pop(ours, None)
    return MODELS.build(settings)


def expected_levels(config: Path, kind: str, annotations: Path) -> list[list[int]]:
    """Positives, negatives and ignored of each level by mmdet's own targets, image by image."""
    head = mmdets_head(config, kind)
    numbers = torch.zeros(3, 3, dtype=torch.long)
    for sample, padded in samples(annotations):
        sizes = [(padded[0] // stride, padded[1] // stride) for stride in (8, 16, 32)]
        if kind == 'RetinaHead':
            anchors, flags = head.get_anchors(sizes, [sample.metainfo], 'cpu')
            labels, weights, *_ = head.get_targets(
                anchors, flags, [sample.gt_instances], [sample.metainfo],
                [sample.ignored_instances],
            )  # fmt: skip
        else:
            points = head.prior_generator.grid_priors(sizes, torch.float32, 'cpu')
            labels = head.get_targets(points, [sample.gt_instances])[0]
            weights = [torch.ones(len(level)) for level in labels]
        for row, (label, weight) in enumerate(zip(labels, weights, strict=True)):
            ignored = weight.flatten() == 0
            positive = (label.flatten() < 10) & ~ignored
            numbers[row, 0] += positive.sum()
            numbers[row, 1] += (~positive & ~ignored).sum()
            numbers[row, 2] += ignored.sum()
    return numbers.tolist()


@pytest.mark.parametrize(
    ('config', 'kind'), [(RETINA, 'RetinaHead'), (FCOS, 'FCOSHead'), (SOFTMAX, 'RetinaHead')]
)
def test_foreground_is_what_mmdet_assigns_image_by_image(
    annotations: Path, config: Path, kind: str
) -> None:
    expected = expected_levels(config, kind, annotations)
    found = head_targets(Config.fromfile(str(config)), annotations, most_images=100)
    assert found.images == 15
    assert [level.stride for level in found.levels] == [8, 16, 32]
    assert [[*level[1:]] for level in found.levels] == expected
    positives, negatives, _ = np.sum(expected, axis=0)
    assert positives > 200
    assert found.foreground == positives / (positives + negatives)
    assert found.class_positives.sum() == positives
    assert found.ones == pytest.approx(found.foreground / 10)
    assert not found.depends_on_predictions
    assert len(found.sizes) == sum(COUNTS)


def test_crowd_regions_are_no_objects(annotations: Path) -> None:
    content = json.loads(annotations.read_text())
    assert sum(one['iscrowd'] for one in content['annotations']) == 2
    found = head_targets(Config.fromfile(str(FCOS)), annotations, most_images=100)
    inside = sum(level.positives for level in found.levels)
    for one in content['annotations']:
        one['iscrowd'] = 0
    other = annotations.with_name('no-crowd.json')
    other.write_text(json.dumps(content))
    more = head_targets(Config.fromfile(str(FCOS)), other, most_images=100)
    assert sum(level.positives for level in more.levels) != inside


def test_random_numbers_go_on_as_if_none_had_been_drawn(annotations: Path) -> None:
    random.seed(3), torch.manual_seed(3)
    expected = random.random(), torch.rand(1).item()
    random.seed(3), torch.manual_seed(3)
    head_targets(Config.fromfile(str(FCOS)), annotations, most_images=2)
    assert (random.random(), torch.rand(1).item()) == expected


def test_a_part_of_the_images_is_drawn(annotations: Path) -> None:
    found = head_targets(Config.fromfile(str(FCOS)), annotations, most_images=4)
    assert found.images == 4


def test_weights_by_hand() -> None:
    """Cui et al. 2019, eq. 2, for beta 0.9: (1 - 0.9^n) / 0.1."""
    numbers = {1: 1.0, 2: 1.9, 10: 6.5132156}
    weights = np.array([1 / value for value in numbers.values()])
    np.testing.assert_allclose(
        effective_weights([*numbers], 0.9), weights * 3 / weights.sum(), rtol=1e-7
    )
    np.testing.assert_allclose(effective_weights([7, 900], 0.0), [1, 1])
    # 1/1 : 1/4 = 4 : 1 with mean 1; a class without objects gets 1
    np.testing.assert_allclose(inverse_weights([1, 0, 4]), [1.6, 1.0, 0.4])
    np.testing.assert_allclose(effective_weights([1, 4], 1 - 1e-9), [1.6, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ('alpha', 'weight', 'expected'),
    [(0.25, 1, 0.25), (0.25, 3, 0.5), (0.25, 1 / 3, 0.1), (0.5, 4, 0.8), (0.0, 9, 0), (1.0, 2, 1)],
)
def test_alpha_of_a_class_by_hand(alpha: float, weight: float, expected: float) -> None:
    """Odds 1:3 times 3 are 1:1, and so on."""
    assert class_alpha(alpha, np.array([weight]))[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ('gamma', 'alpha'), [(0, 0.75), (0.2, 0.75), (0.5, 0.5), (1, 0.25), (2, 0.25), (7, 0.25)]
)
def test_alpha_for_a_gamma_is_that_of_the_table(gamma: float, alpha: float) -> None:
    assert alpha_of_gamma(gamma) == alpha


def test_scalar_rules_by_hand() -> None:
    assert scalar_alpha(0.001) == 0.999
    assert (bias_prior(0.0), bias_prior(0.004), bias_prior(0.03)) == (0.01, 0.01, 0.03)
    sgd, adam = {'type': 'SGD', 'lr': 0.02}, {'type': 'AdamW', 'lr': 2e-3}
    assert learning_rate(None).value == 0.01
    assert learning_rate(sgd, 4, 16).value == pytest.approx(0.005)  # linear: a quarter
    assert learning_rate(adam, 32, 8).value == pytest.approx(4e-3)  # square root: twice
    assert learning_rate({'type': 'SGD', 'lr': 1.0}, 8).value == pytest.approx(0.005)
    with pytest.raises(ValueError, match=r'`beta`.* in \[0, 1\)'):
        effective_weights([1], 1.0)


def described(annotations: Path, out: Path, *options: object) -> tuple[dict, Config]:
    """The numbers and the suggested config that the command line writes."""
    assert main([str(annotations), '--out', str(out), *map(str, options)]) == 0
    return json.loads((out / 'dataset_stats.json').read_text()), Config.fromfile(
        str(out / 'suggested.py')
    )


@pytest.mark.parametrize('balance', ['effective', 'inverse', 'none'])
def test_suggested_config_is_built_with_the_alpha_of_the_formula(
    annotations: Path, tmp_path: Path, balance: str
) -> None:
    numbers, config = described(annotations, tmp_path / 'out', '--config', RETINA,
                                '--balance', balance, '--effective-beta', 0.9)  # fmt: skip
    weights = [1 / sum(0.9**k for k in range(n)) for n in COUNTS]  # the sum is (1 - b^n) / (1 - b)
    if balance == 'inverse':
        weights = [1 / n for n in COUNTS]
    mean = sum(weights) / 10
    expected = [w / mean / 4 / (w / mean / 4 + 0.75) for w in weights]
    loss = MODELS.build(config.model).bbox_head.loss_cls
    assert type(loss).__name__ == 'FocalLossX'
    if balance == 'none':
        assert loss.alpha == 0.25
    else:
        assert loss.alpha.tolist() == pytest.approx(expected, abs=5.1e-5)
        listed = [one[f'{balance}_alpha'] for one in numbers['classes']]
        assert listed == pytest.approx(expected, rel=1e-12)
        scores = torch.zeros(3, 10, requires_grad=True)
        loss(scores, torch.tensor([0, 9, 10])).backward()
        assert scores.grad.abs().sum() > 0
    assert [one['objects'] for one in numbers['classes']] == [*COUNTS]
    assert numbers['imbalance'] == 60
    assert numbers['suggestions']['alpha_for_gamma_0'] == 1 - numbers['targets']['foreground']


def test_snippet_pasted_into_a_config_is_that_config(
    annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    described(annotations, tmp_path / 'out', '--config', FCOS)
    printed = capsys.readouterr().out
    text = printed[printed.index('_base_ = [') : printed.index('The config is ')]
    pasted = tmp_path / 'out' / 'pasted.py'
    pasted.write_text(text)
    config = Config.fromfile(str(pasted))
    assert config.model == Config.fromfile(str(tmp_path / 'out' / 'suggested.py')).model
    assert config.model.bbox_head.type == 'FCOSHeadX'
    MODELS.build(config.model)


def test_gamma_0_takes_the_inverse_foreground_and_softmax_weights_of_classes(
    annotations: Path, tmp_path: Path
) -> None:
    plain = tmp_path / 'plain.py'
    plain.write_text(
        f'_base_ = [{str(RETINA)!r}]\nmodel = dict(bbox_head=dict(loss_cls=dict(gamma=0.0)))\n'
    )
    numbers, config = described(annotations, tmp_path / 'a', '--config', plain, '--balance', 'none')
    foreground = numbers['targets']['foreground']
    assert config.model.bbox_head.loss_cls.alpha == pytest.approx(1 - foreground, abs=5.1e-5)
    assert config.model.bbox_head.loss_cls.gamma == 0
    numbers, config = described(annotations, tmp_path / 'b', '--config', SOFTMAX)
    weights = [one['effective'] for one in numbers['classes']]
    assert config.model.bbox_head.loss_cls.alpha == pytest.approx([*weights, 1.0], abs=5.1e-5)
    assert len(MODELS.build(config.model).bbox_head.loss_cls.alpha) == 11


def test_prior_is_set_where_ones_are_frequent(annotations: Path, tmp_path: Path) -> None:
    """With two classes and few background points, more than a hundredth of the targets is 1."""
    content = json.loads(annotations.read_text())
    content['categories'] = content['categories'][:1]
    content['annotations'] = [one for one in content['annotations'] if one['category_id'] == 1]
    few = tmp_path / 'few.json'
    few.write_text(json.dumps(content))
    base = tmp_path / 'one_class.py'
    base.write_text(
        f'_base_ = [{str(FCOS)!r}]\nmodel = dict(bbox_head=dict(num_classes=1))\n'
        "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('zero',))))\n"
    )
    numbers, config = described(few, tmp_path / 'out', '--config', base)
    prior = numbers['suggestions']['bias_prior']
    assert prior == pytest.approx(numbers['targets']['foreground'])
    assert prior > 0.02
    model = MODELS.build(config.model)
    model.init_weights()
    bias = model.bbox_head.conv_cls.bias
    torch.testing.assert_close(bias, torch.full_like(bias, -math.log((1 - prior) / prior)),
                               rtol=0, atol=5e-3)  # fmt: skip


def test_without_a_config(annotations: Path, tmp_path: Path) -> None:
    numbers, config = described(annotations, tmp_path / 'out')
    assert numbers['targets'] is None
    assert len(config.model.bbox_head.loss_cls.alpha) == 10
    assert numbers['stats']['crowd_count'] == 2
    content = json.loads(annotations.read_text())
    areas = [one['area'] for one in content['annotations'] if not one['iscrowd']]
    assert numbers['size_shares']['small'] == pytest.approx(np.mean(np.array(areas) < 1024))
    page = (tmp_path / 'out' / 'report.html').read_text()
    assert page.count('data:image/svg') == 3
    assert {source[:5] for source in re.findall(r'src="([^"]*)"', page)} == {'data:'}


def write(folder: Path, **changes: object) -> Path:
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=9, height=9)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 5, 5], area=25, iscrowd=0)],
        categories=[dict(id=1, name='zero'), dict(id=2, name='one')],
    )
    path = folder / 'odd.json'
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_odd_annotations_are_named(tmp_path: Path) -> None:
    numbers, _ = described(write(tmp_path), tmp_path / 'out')
    assert any('one have no objects' in note for note in numbers['notes'])
    numbers, _ = described(write(tmp_path, annotations=[]), tmp_path / 'out')
    assert numbers['imbalance'] is None
    odd = [dict(id=1, image_id=5, category_id=1, bbox=[0, 0, 5, 5], area=25)]
    numbers, _ = described(write(tmp_path, annotations=odd), tmp_path / 'out')
    assert any('an image that the file does not list' in note for note in numbers['notes'])
    with pytest.raises(SystemExit, match='lists no category'):
        main([str(write(tmp_path, categories=[], annotations=[])), '--out', str(tmp_path / 'o')])
    (tmp_path / 'no.json').write_text('[]')
    with pytest.raises(SystemExit, match=r'no\.json is no COCO JSON'):
        main([str(tmp_path / 'no.json'), '--out', str(tmp_path / 'out')])


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        ('model = dict(bbox_head=None)', r'has no model\.bbox_head'),
        ("model = dict(bbox_head=dict(num_classes=3))", r'num_classes=3, but .* 10 of the classes'),
        ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='PackDetInputs')]))",
         'has no LoadImageFromFile'),
        ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))",
         'must end with PackDetInputs'),
        ("model = dict(bbox_head=dict(_delete_=True, type='YOLOXHead', num_classes=10, "
         "in_channels=48, strides=[8, 16, 32]), train_cfg=dict(_delete_=True, "
         "assigner=dict(type='SimOTAAssigner')))", r'YOLOXHead hands \d+ of \d+ predictions'),
        ("model = dict(bbox_head=dict(_delete_=True, type='SSDHead', num_classes=10))",
         r'bbox_head of .*odd\.py cannot be built: ValueError: basesize'),
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_counted_is_refused_by_name(
    annotations: Path, tmp_path: Path, lines: str, words: str
) -> None:
    config = tmp_path / 'odd.py'
    config.write_text(f'_base_ = [{str(RETINA)!r}]\n{lines}\n')
    with pytest.raises(SystemExit, match=words):
        main([str(annotations), '--config', str(config), '--out', str(tmp_path / 'out')])
