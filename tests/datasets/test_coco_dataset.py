"""CheckedCocoDataset: mmdet's samples on good data, an error with a name on bad data."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip('mmdet')

from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules
from mmengine.registry import DATASETS, init_default_scope

import mmfocalx.datasets.coco  # noqa: F401
from helpers.tiny_detection import CLASSES, write_dataset

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path')),
]


@pytest.fixture(autouse=True)
def _mmdet_scope():
    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / 'data', images=3)


def build(data, type_='CheckedCocoDataset', **changes):
    config = dict(
        type=type_,
        data_root=str(data),
        ann_file='annotations.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        pipeline=PIPELINE,
    )
    return DATASETS.build({**config, **changes})


def rewrite(data, change):
    path = data / 'annotations.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_samples_equal_those_of_mmdet(data):
    checked, plain = build(data), build(data, 'CocoDataset')
    assert isinstance(checked, CocoDataset)
    assert len(checked) == len(plain) == 3
    for ours, theirs in zip(checked, plain, strict=True):
        np.testing.assert_array_equal(ours['inputs'], theirs['inputs'])
        for field in ('bboxes', 'labels'):
            a, b = (s['data_samples'].gt_instances[field] for s in (ours, theirs))
            np.testing.assert_array_equal(getattr(a, 'tensor', a), getattr(b, 'tensor', b))


def test_missing_annotation_file_is_named(data):
    with pytest.raises(FileNotFoundError, match=r'ann_file') as caught:
        build(data, ann_file='train/none.json')
    assert str(data / 'train/none.json') in str(caught.value)


@pytest.mark.parametrize('content', ['{"images": [', '[]', '{"annotations": [{"id": 1}]}'])
def test_annotation_file_of_another_format_is_named(data, content):
    (data / 'annotations.json').write_text(content)
    with pytest.raises(ValueError, match='`ann_file` to be a file of COCO JSON') as caught:
        build(data)
    assert str(data / 'annotations.json') in str(caught.value)


@pytest.mark.parametrize(
    ('classes', 'says'),
    [
        (('disc', 'bar', 'ring'), "not in the annotations: ['ring']"),
        (('disc',), "not among the classes: ['bar']"),
        (('Disc', 'bar'), "not in the annotations: ['Disc']; not among the classes: ['disc']"),
        (('bar', 'disc'), 'the order of the names'),
        (('disc', 'disc', 'bar'), "given twice: ['disc']"),
        ((), "not among the classes: ['disc', 'bar']"),
    ],
)
def test_classes_that_do_not_match_are_listed(data, classes, says):
    with pytest.raises(ValueError, match=r"Expected argument `metainfo\['classes'\]`") as caught:
        build(data, metainfo=dict(classes=classes))
    message = str(caught.value)
    assert says in message
    assert str(CLASSES) in message
    assert str(classes) in message
    assert str(data / 'annotations.json') in message


ALL = "metainfo=dict(classes=('disc', 'bar')) in all data sets and num_classes=2 in the head."
ADD = "If ['ring'] have no object in this file, add them to its `categories`, so that"


@pytest.mark.parametrize(
    ('classes', 'advice', 'without'),
    [
        (('bar', 'disc'), f'Write {ALL}', 'ignore_other_categories'),
        (('disc', 'disc', 'bar'), f'Write {ALL}', 'ignore_other_categories'),
        (('Disc', 'Bar'), f'Write {ALL}', 'ignore_other_categories'),
        (('disc', 'bar', 'ring'), ADD, 'ignore_other_categories'),
        (('disc', 'bar', 'ring'), f'to do without them, write {ALL}', 'ignore_other_categories'),
        (('ring', 'bar'), "write metainfo=dict(classes=('bar',)) and ignore_other_categor", ALL),
        (('disc',), f"Write {ALL} To train on ['disc'] only, write metainfo=dict(classes=", ADD),
        (('disc',), "classes=('disc',)) and ignore_other_categories=True.", ADD),
    ],
)
def test_advice_is_what_to_write(data, classes, advice, without):
    with pytest.raises(ValueError, match='The difference') as caught:
        build(data, metainfo=dict(classes=classes))
    assert advice in str(caught.value)
    assert without not in str(caught.value)


def test_advice_when_followed_builds(data):
    line = re.compile(r'rite metainfo=dict\((classes=\(.*?\))\)')
    for classes in (('bar', 'disc'), ('disc', 'disc', 'bar'), ('Disc', 'bar', 'ball')):
        with pytest.raises(ValueError, match='The difference') as caught:
            build(data, metainfo=dict(classes=classes))
        written = line.search(str(caught.value))[1]
        chosen = dict(metainfo=eval(f'dict({written})'))
        needed = 'ignore_other_categories=True' in str(caught.value)
        assert len(build(data, ignore_other_categories=needed, **chosen)) == 3


def test_mmdet_would_swap_the_labels_of_classes_in_another_order(data):
    """The reason why the order matters: label 0 is called 'bar', and is a disc."""
    plain = build(data, 'CocoDataset', metainfo=dict(classes=('bar', 'disc')))
    first_box = plain.get_data_info(0)['instances'][0]
    assert json.loads((data / 'annotations.json').read_text())['annotations'][0]['category_id'] == 1
    assert plain.metainfo['classes'][first_box['bbox_label']] == 'bar'


def test_classes_given_as_one_name_are_refused(data):
    with pytest.raises(ValueError, match=re.escape('sequence of names')):
        build(data, metainfo=dict(classes='disc'))


def test_some_of_the_categories_on_request(data):
    some = build(data, metainfo=dict(classes=('bar',)), ignore_other_categories=True)
    labels = [box['bbox_label'] for i in range(3) for box in some.get_data_info(i)['instances']]
    assert labels == [0, 0, 0]
    with pytest.raises(ValueError, match='ring'):
        build(data, metainfo=dict(classes=('bar', 'ring')), ignore_other_categories=True)


@pytest.mark.parametrize('value', [1, 'yes', None])
def test_ignore_other_categories_is_a_bool(data, value):
    with pytest.raises(TypeError, match='argument `ignore_other_categories` to be True or False'):
        build(data, ignore_other_categories=value)


def test_without_classes_they_are_those_of_coco(data):
    with pytest.raises(ValueError, match=r'disc.*person'):
        build(data, metainfo=None)

    def be_coco(content):
        names = CocoDataset.METAINFO['classes']
        content['categories'] = [dict(id=i, name=name) for i, name in enumerate(names, 1)]

    rewrite(data, be_coco)
    assert len(build(data, metainfo=None)) == 3


def torn(path):
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    'spoil',
    [
        lambda path: path.write_bytes(b''),
        lambda path: path.write_text('no image'),
        torn,
    ],
    ids=['empty', 'text', 'torn'],
)
@pytest.mark.parametrize('test_mode', [False, True])
def test_image_that_cannot_be_read_is_named(data, spoil, test_mode):
    spoil(data / 'images' / '1.jpg')
    dataset = build(data, test_mode=test_mode)
    dataset[0]
    with pytest.raises(OSError, match='Cannot read image') as caught:
        dataset[1]
    assert str(data / 'images' / '1.jpg') in str(caught.value)


def test_fault_of_the_pipeline_is_not_blamed_on_the_image(data):
    dataset = build(
        data, pipeline=[dict(type='LoadAnnotations'), dict(type='Resize', scale=(9, 9))]
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011
        dataset[0]
    assert 'Cannot read image' not in str(caught.value)
