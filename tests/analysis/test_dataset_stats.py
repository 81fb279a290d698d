"""What is written about a data set, and the suggested config, which is built."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from helpers.digit_annotations import COUNTS, FCOS, RETINA, SOFTMAX
from mmfocalx.analysis.dataset_cli import main


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
    assert any('No objects of one:' in note for note in numbers['notes'])
    numbers, _ = described(write(tmp_path, annotations=[]), tmp_path / 'out')
    assert numbers['imbalance'] is None
    odd = [dict(id=1, image_id=5, category_id=1, bbox=[0, 0, 5, 5], area=25)]
    numbers, _ = described(write(tmp_path, annotations=odd), tmp_path / 'out')
    assert any('an image that the file does not list' in note for note in numbers['notes'])
    outside = [dict(id=1, image_id=1, category_id=1, bbox=[7, 7, 5, 5], area=25, iscrowd=0)]
    numbers, _ = described(write(tmp_path, annotations=outside), tmp_path / 'out')
    (beyond,) = [note for note in numbers['notes'] if 'boundary' in note]
    assert re.search(r'[^.]\.$', beyond)
    with pytest.raises(SystemExit, match='Its list of categories is empty'):
        main([str(write(tmp_path, categories=[], annotations=[])), '--out', str(tmp_path / 'o')])
    (tmp_path / 'no.json').write_text('[]')
    with pytest.raises(SystemExit, match=r'a file of COCO JSON, but got .*no\.json'):
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
