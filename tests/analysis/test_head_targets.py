"""Foreground counts against mmdet's own targets, image by image."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from helpers.digit_annotations import COUNTS, FCOS, RETINA, SOFTMAX
from mmfocalx.analysis.head_targets import head_targets


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
