"""The page on own data converts VOC and YOLO files to what CheckedCocoDataset reads right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmdet')

from mmdet.utils import register_all_modules
from mmengine.registry import DATASETS, init_default_scope

import mmfocalx.datasets.coco  # noqa: F401

PAGE = Path(__file__).resolve().parents[2] / 'docs/own_data.md'
SIZE = (100, 80)
SPLITS = ('train', 'val', 'test')
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape')),
]
OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""
IMAGE = """<annotation><folder>somewhere</folder><filename>{}</filename>
<size><width>{}</width><height>{}</height><depth>3</depth></size>{}</annotation>"""

# Objects of each image: class, difficult, and VOC's first and last pixel in x and y, from 1.
VOC = {
    'a.jpg': [('nut', 0, 1, 1, 50, 40), ('bolt', 0, 11, 21, 30, 60), ('nut', 1, 61, 11, 80, 30)],
    'b.png': [('bolt', 0, 1, 1, 100, 80)],
    'c.jpg': [],
    'd.jpg': [('nut', 0, 51, 41, 51, 41)],
}
# The same in corners from 0, as mmdet counts, with the number of its class in sorted order.
CORNERS = {
    'a.jpg': [(1, 0, 0, 50, 40), (0, 10, 20, 30, 60), (1, 60, 10, 80, 30)],
    'b.png': [(0, 0, 0, 100, 80)],
    'c.jpg': [],
    'd.jpg': [(1, 50, 40, 51, 41)],
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')


def code(title: str) -> list[str]:
    """The Python blocks of a section of the page."""
    (section,) = re.findall(rf'^### {title}\n(.*?)^##', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r'^```python\n(.*?)^```$', section, re.MULTILINE | re.DOTALL)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)).save(path)


def write_voc() -> None:
    for name, objects in VOC.items():
        write_image(Path('my_data/JPEGImages', name))
        file = Path('my_data/Annotations', name).with_suffix('.xml')
        file.parent.mkdir(exist_ok=True)
        file.write_text(IMAGE.format(name, *SIZE, ''.join(OBJECT.format(*o) for o in objects)))


def write_yolo(split: str, objects: dict[str, list[tuple[float, ...]]]) -> None:
    """Centre and size as shares of the image; an image without objects has no file of labels."""
    labels = Path('my_data/labels', split)
    labels.mkdir(parents=True)
    for name, boxes in objects.items():
        write_image(Path('my_data/images', split, name))
        width, height = SIZE
        lines = [
            f'{label} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} '
            f'{(x2 - x1) / width} {(y2 - y1) / height}\n'
            for label, x1, y1, x2, y2 in boxes
        ]
        if lines:
            (labels / name).with_suffix('.txt').write_text(''.join(lines))


def read(
    split: str, images: str, classes: tuple[str, ...], objects: str = 'gt_instances'
) -> dict[str, list[tuple[float, ...]]]:
    """Label and corners of the objects of each image, as they reach a training."""
    data = DATASETS.build(
        dict(
            type='CheckedCocoDataset',
            data_root='my_data/',
            ann_file=f'{split}.json',
            data_prefix=dict(img=images),
            metainfo=dict(classes=classes),
            pipeline=PIPELINE,
        )
    )
    found = {}
    for sample in data:
        assert sample['data_samples'].ori_shape == (SIZE[1], SIZE[0])
        instances = sample['data_samples'].get(objects)
        corners = getattr(instances.bboxes, 'tensor', instances.bboxes).tolist()
        labelled = zip(instances.labels.tolist(), corners, strict=True)
        found[Path(sample['data_samples'].img_path).name] = [(n, *box) for n, box in labelled]
    return found


def expected(boxes: dict[str, list[tuple[float, ...]]]) -> dict[str, list[Any]]:
    return {name: [pytest.approx(box, abs=1e-4) for box in boxes[name]] for name in boxes}


def categories(split: str) -> list[tuple[int, str]]:
    file = json.loads(Path(f'my_data/{split}.json').read_text())
    return [(category['id'], category['name']) for category in file['categories']]


def test_voc_divided_at_random() -> None:
    write_voc()
    exec(code('From Pascal-VOC XML')[0], {})
    found = {}
    for split in SPLITS:
        assert categories(split) == [(1, 'bolt'), (2, 'nut')]
        file = json.loads(Path(f'my_data/{split}.json').read_text())
        found.update({image['file_name']: split for image in file['images']})
    assert found.keys() == VOC.keys() and {*found.values()} == {*SPLITS}


def test_voc_divided_by_its_lists() -> None:
    write_voc()
    Path('my_data/labels.txt').write_text('bolt\nnut\nscrew\n')  # a class without an object
    lists = Path('my_data/ImageSets/Main')
    lists.mkdir(parents=True)
    for split, names in zip(SPLITS, ('a\nc\n', 'b\n', 'd'), strict=True):
        (lists / f'{split}.txt').write_text(names)
    first, second = code('From Pascal-VOC XML')
    exec(first + second, {})
    names = ('bolt', 'nut', 'screw')
    for split, images in zip(SPLITS, (('a.jpg', 'c.jpg'), ('b.png',), ('d.jpg',)), strict=True):
        assert categories(split) == [*enumerate(names, start=1)]
        # The difficult object is the last one of its image.
        boxes = {name: CORNERS[name][:2] for name in images}
        assert read(split, 'JPEGImages/', names) == expected(boxes)
        difficult = {name: CORNERS[name][2:] for name in images}
        assert read(split, 'JPEGImages/', names, 'ignored_instances') == expected(difficult)


def test_yolo() -> None:
    names = ('bolt', 'nut')
    Path('my_data').mkdir()
    Path('my_data/data.yaml').write_text('train: images/train\nnames:\n  0: bolt\n  1: nut\n')
    for split in SPLITS:
        write_yolo(split, CORNERS if split == 'train' else {f'{split}.jpg': CORNERS['a.jpg']})
        Path('my_data/images', split, '.DS_Store').write_bytes(b'no image')
    exec('\n'.join(code('From YOLO text')), {})
    assert [categories(split) for split in SPLITS] == 3 * [[(1, 'bolt'), (2, 'nut')]]
    assert read('train', 'images/', names) == expected(CORNERS)
    assert [*read('val', 'images/', names)] == ['val.jpg']
    assert read('test', 'images/', names) == expected({'test.jpg': CORNERS['a.jpg']})


@pytest.mark.parametrize(
    'line', ['2 0.5 0.5 0.1 0.1', '0 0.1 0.1 0.2 0.1 0.2 0.2', '0 0.5 0.5 0.1']
)
def test_a_line_of_yolo_that_is_no_box_of_a_known_class_is_named(line: str) -> None:
    Path('my_data').mkdir()
    Path('my_data/data.yaml').write_text("names: ['bolt', 'nut']\n")
    write_yolo('train', CORNERS)
    Path('my_data/labels/train/d.txt').write_text(f'0 0.5 0.5 0.2 0.2\n{line}\n')
    with pytest.raises(ValueError, match=re.escape('labels/train/d.txt: line 2')):
        exec('\n'.join(code('From YOLO text')), {})
