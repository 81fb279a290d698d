"""Images that are not there, or not of the size that the annotation file says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmdet')

from PIL import Image

from helpers import wild_annotations as wild
from helpers.wild_annotations import each, one


def oriented(path: Path, orientation: int) -> None:
    """Write the image 64 x 40 with an EXIF tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.resize((64, 40)).save(path, exif=exif)


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize(
    ('width', 'height'), [(64, 63), (128, 128), (64.5, 64), (640, 480)]
)  # fmt: skip
def test_other_size_is_named_when_the_image_is_read(
    tmp_path: Path, width: float, height: float, test_mode: bool
) -> None:
    def change(content: wild.Content) -> None:
        content['images'][2].update(width=width, height=height)

    data = wild.write(tmp_path, change)
    dataset = wild.build(data, test_mode=test_mode)
    dataset[1]
    with pytest.raises(ValueError, match=rf'image 2 is {width} x {height} \(width x') as caught:
        dataset[2]
    assert f'{data}/images/2.jpg is 64 x 64 when it is read' in str(caught.value)
    assert str(data / 'annotations.json') in str(caught.value)
    assert 'scale the boxes' in str(caught.value)


@pytest.mark.parametrize('orientation', [3, 5, 6, 8])
def test_image_that_is_turned_as_it_is_read(tmp_path: Path, orientation: int) -> None:
    data = wild.write(tmp_path, one(2, 'height', 40, 'images'))
    path = data / 'images/2.jpg'
    oriented(path, orientation)
    shape = cv2.imread(str(path)).shape[:2]  # another reader that turns it
    dataset = wild.build(data)
    if shape == (40, 64):
        assert dataset[2]['inputs'].shape == (3, 40, 64)
        return
    with pytest.raises(ValueError, match=f'orientation {orientation}.*ignore_orientation'):
        dataset[2]
    loader = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    as_stored = wild.build(data, pipeline=[loader, *wild.PIPELINE[1:]])
    assert as_stored[2]['inputs'].shape == (3, 40, 64)


@pytest.mark.parametrize('orientation', [6, 8])
def test_recorded_as_it_is_turned(tmp_path: Path, orientation: int) -> None:
    data = wild.write(tmp_path, one(2, 'width', 40, 'images'))
    oriented(data / 'images/2.jpg', orientation)
    assert wild.build(data)[2]['inputs'].shape == (3, 64, 40)


def test_size_is_compared_before_the_image_is_scaled(tmp_path: Path) -> None:
    data = wild.write(tmp_path)
    scale = dict(type='Resize', scale=(32, 32), keep_ratio=True)
    steps = [*wild.PIPELINE[:2], scale, wild.PIPELINE[2]]
    assert wild.build(data, pipeline=steps)[0]['inputs'].shape == (3, 32, 32)


def test_size_is_compared_inside_a_mixing_data_set(tmp_path: Path) -> None:
    from mmengine.registry import DATASETS

    data = wild.write(tmp_path, one(3, 'width', 65, 'images'))
    inner = dict(
        type='CheckedCocoDataset', data_root=str(data), ann_file='annotations.json',
        data_prefix=dict(img='images/'), metainfo=dict(classes=wild.CLASSES),
        pipeline=wild.PIPELINE[:2],
    )  # fmt: skip
    wild.build(data)  # sets mmdet's scope
    mixed = DATASETS.build(
        dict(type='MultiImageMixDataset', dataset=inner, pipeline=[dict(type='PackDetInputs')])
    )
    assert mixed[2]['inputs'].shape == (3, 64, 64)
    with pytest.raises(ValueError, match='image 3 is 65 x 64'):
        mixed[3]


@pytest.mark.parametrize('test_mode', [False, True])
def test_missing_images_are_named_when_the_data_set_is_built(
    tmp_path: Path, test_mode: bool
) -> None:
    data = wild.write(tmp_path)
    for number in (1, 4):
        (data / f'images/{number}.jpg').unlink()
    with pytest.raises(
        FileNotFoundError, match=r'2 of the 6 images that .*annotations.json'
    ) as info:
        wild.build(data, test_mode=test_mode)
    assert f"'{data}/images/1.jpg' and '{data}/images/4.jpg'" in str(info.value)


@pytest.mark.parametrize(
    ('prefix', 'change', 'says'),
    [
        ('imgs/', None, '6 of the 6 .*/imgs/0.jpg.*/imgs/5.jpg.*data_prefix='),
        ('', None, '6 of the 6'),
        ('images/', each('file_name', lambda i: f'images/{i["file_name"]}', 'images'),
         'images/images/0.jpg'),
        ('images/', each('file_name', lambda i: f'a\\{i["file_name"]}', 'images'),
         r'with / in place of \\'),
        ('images/', each('file_name', lambda i: i['file_name'].upper(), 'images'), '0.JPG'),
    ],
)  # fmt: skip
def test_all_missing(tmp_path: Path, prefix: str, change: wild.Change | None, says: str) -> None:
    data = wild.write(tmp_path, change)
    with pytest.raises(FileNotFoundError, match=says):
        wild.build(data, data_prefix=dict(img=prefix))


def folders(content: wild.Content) -> None:
    for image in content['images'][::2]:
        image['file_name'] = f'more/{image["file_name"]}'


def test_images_in_several_folders(tmp_path: Path) -> None:
    data = wild.write(tmp_path, folders)
    (data / 'images/more').mkdir()
    for number in (0, 2, 4):
        (data / f'images/{number}.jpg').rename(data / f'images/more/{number}.jpg')
    assert len(wild.build(data)) == 6
    (data / 'images/more/4.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of the 6 .*/images/more/4\.jpg'):
        wild.build(data)


@pytest.mark.parametrize(
    'changes',
    [
        dict(indices=1),
        dict(indices=[0, 0]),
        dict(pipeline=[]),
        dict(pipeline=[dict(type='LoadImageFromFile', backend_args=dict(backend='http'))]),
        dict(filter_cfg=dict(min_size=40)),
    ],
    ids=['first', 'chosen', 'nothing read', 'remote', 'filtered'],
)
def test_images_that_are_not_read_need_not_be_there(tmp_path: Path, changes: dict) -> None:
    def small(content: wild.Content) -> None:
        for image in content['images'][1:]:
            image['width'] = 20

    data = wild.write(tmp_path, small if 'filter_cfg' in changes else None)
    for number in range(1, 6):
        (data / f'images/{number}.jpg').unlink()
    wild.build(data, **changes)


def clear(content: wild.Content) -> None:
    content['annotations'].clear()


@pytest.mark.parametrize(
    ('change', 'changes', 'says'),
    [
        (None, dict(filter_cfg=dict(min_size=65)), "6 images none .*{'min_size': 65}"),
        (clear, dict(filter_cfg=dict(filter_empty_gt=True)), "none .*{'filter_empty_gt': True}"),
        (None, dict(indices=0), 'none is left by .*indices=0'),
        (None, dict(indices=[]), r'indices=\[\]'),
    ],
)
def test_no_image_left_is_named(
    tmp_path: Path, change: wild.Change | None, changes: dict, says: str
) -> None:
    data = wild.write(tmp_path, change)
    with pytest.raises(ValueError, match=says) as caught:
        wild.build(data, **changes)
    assert str(data / 'annotations.json') in str(caught.value)


def test_pixels_are_those_of_mmdet(tmp_path: Path) -> None:
    data = wild.write(tmp_path)
    for ours, theirs in zip(wild.build(data), wild.build(data, 'CocoDataset'), strict=True):
        np.testing.assert_array_equal(ours['inputs'], theirs['inputs'])
    assert json.loads((data / 'annotations.json').read_text())['images'][0]['width'] == 64
