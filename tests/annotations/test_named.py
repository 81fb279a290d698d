"""What mmdet loses in silence, or dies of later, is named when the data set or metric is built."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmdet')

from mmengine.logging import MMLogger

from helpers import wild_annotations as wild
from helpers.wild_annotations import each, ids, one

TRAIN, TEST, METRIC = 'training set', 'test set', 'metric'
BOTH, EVALUATION, ALL = (TRAIN, TEST), (TEST, METRIC), (TRAIN, TEST, METRIC)


def read(data: Path, by: str) -> None:
    if by == METRIC:
        wild.ScoreQualityMetric(str(data / 'annotations.json'))
    else:
        wild.build(data, test_mode=by == TEST)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that are logged."""
    logged: list[str] = []
    log = MMLogger.get_current_instance()

    def note(level: int, message: str) -> None:
        if 'annotations.json' in message:  # mmdet has its own to say
            logged.append(message)

    monkeypatch.setattr(log, 'log', note)
    return logged


def repeat(kind: str, key: str) -> wild.Change:
    """Give the second record the value of the first."""
    return lambda content: content[kind][1].update({key: content[kind][0][key]})


def without(key: str) -> wild.Change:
    return lambda content: content.pop(key) and None


def shares(annotation: dict) -> list[float]:
    return [value / 64 for value in annotation['bbox']]


def off_by(step: int, key: str) -> wild.Change:
    return each(key, lambda annotation: annotation[key] + step)


def empty(key: str) -> wild.Change:
    return lambda content: content.update({key: []})


def beyond(annotation: dict) -> list[float]:
    return [annotation['bbox'][0] + 64, *annotation['bbox'][1:]]


ERRORS: dict[str, tuple[wild.Change, tuple[str, ...], str]] = {
    # annotations that vanish, all of them
    'area 0': (each('area', 0), (TRAIN,),
               r"None of its 12 annotations counts: 12 with an `area` of 0 or less \(such as "
               r'annotation 1 with `area` 0\). Write the area in pixels, such as width \* height'),
    'area below 0': (each('area', -1.5), (TRAIN,), r'12 with an `area` of 0 or less'),
    'coordinates 0..1': (each('bbox', shares), ALL,
                         '12 with a box less than 1 pixel.*shares, 0 to 1: multiply'),
    'boxes of half a pixel': (each('bbox', [5, 5, 0.5, 0.5]), ALL,
                              r'annotation 1 with `bbox` \[5, 5, 0.5, 0.5\]\). Write `bbox` as'),
    'corners for sides, negative': (each('bbox', [30, 30, -5, -5]), ALL, 'None of its 12'),
    'beyond the image': (each('bbox', beyond), (TRAIN,), '12 outside of their image'),
    'crowds alone': (each('iscrowd', 1), ALL, '12 marked `iscrowd` .* Write `iscrowd` 0'),
    'ignored alone': (each('ignore', 1), (TRAIN,), '12 marked `ignore`'),
    'all, for several reasons': (
        lambda content: [one(0, 'area', -1)(content), one(1, 'bbox', [70, 1, 9, 9])(content),
                         content['annotations'].__setitem__(slice(2, None), [])][0],
        (TRAIN,), '1 with an `area`.* 1 outside of their image'),
    'no image matches': (off_by(100, 'image_id'), ALL,
                         r'12 on an image that the file does not list \(such as annotation 1 with '
                         r'`image_id` 100; the file lists 0, 1, 2, 3, 4 and 5\)'),
    'no category matches': (off_by(7, 'category_id'), ALL, 'the file lists 1 and 2'),
    'image ids of another type': (each('image_id', lambda a: str(a['image_id'])), ALL,
                                  "`image_id` '0'; the file lists 0, 1"),
    'category ids of another type': (each('category_id', lambda a: str(a['category_id'])), ALL,
                                     "`category_id` '1'; the file lists 1 and 2"),
    'category ids one too low': (off_by(-1, 'category_id'), ALL,
                                 r'It does not list 0, .*larger by 1.*Write `category_id` \+ 1'),
    'category ids one too high': (off_by(1, 'category_id'), ALL,
                                  'It does not list 3, .*smaller by 1.*Write `category_id` - 1'),
    'image ids one too low': (off_by(-1, 'image_id'), ALL, r'not list -1.*Write `image_id` \+ 1'),
    'image ids one too high': (off_by(1, 'image_id'), ALL, 'not list 6.*those of another image'),
    # one value for two things
    'image id twice': (repeat('images', 'id'), ALL,
                       'More than one image has 0. Number the images'),
    'category id twice': (repeat('categories', 'id'), ALL, 'More than one category has 1'),
    'category name twice': (repeat('categories', 'name'), ALL,
                            "'disc' has the ids 1 and 2. Keep one of them"),
    'annotation id twice': (repeat('annotations', 'id'), ALL, 'More than one annotation has 1'),
    'annotation ids from 1 in each image': (
        each('id', lambda a: a['category_id']), ALL, 'More than one annotation has 1 and 2'),
    'no annotation id': (one(3, 'id'), ALL,
                         r'Number 4 in the list of annotations, with `image_id` 1, has none'),
    'annotation id null': (one(3, 'id', [None]), ALL, r'Number 4 in the list has \[None\]'),
    'no image id': (one(2, 'id', kind='images'), ALL, "with `file_name` '2.jpg', has none"),
    'no category id': (one(1, 'id', kind='categories'), ALL, "with `name` 'bar', has none"),
    'annotation ids as texts': (ids(lambda i: f'a{i}', 'annotations'), EVALUATION,
                                "annotation 'a1' has a text, which CocoMetric"),
    # bare errors
    'no bbox': (one(4, 'bbox'), ALL, r'a usable `bbox`.*annotation 5 has none. Write \[x, y'),
    'bbox empty': (one(4, 'bbox', []), ALL, r'annotation 5 has \[\]'),
    'bbox of three': (one(4, 'bbox', [1, 2, 3]), ALL, r'annotation 5 has \[1, 2, 3\]'),
    'bbox of texts': (one(4, 'bbox', ['1', '2', '3', '4']), ALL, "annotation 5 has .'1'"),
    'bbox with null': (one(4, 'bbox', [1, None, 3, 4]), ALL, 'annotation 5 has .1, None'),
    'bbox a text': (one(4, 'bbox', '1 2 3 4'), ALL, "annotation 5 has '1 2 3 4'"),
    'bbox not finite': (one(4, 'bbox', [1, 2, math.inf, 4]), ALL, 'annotation 5 has .1, 2, inf'),
    'bbox NaN': (one(4, 'bbox', [math.nan, 2, 3, 4]), ALL, 'annotation 5 has .nan'),
    'no area': (one(4, 'area'), ALL, r'annotation 5 has none. Write the area.*width \* height'),
    'area a text': (one(4, 'area', '12'), ALL, "annotation 5 has '12'"),
    'no iscrowd': (one(4, 'iscrowd'), EVALUATION, 'annotation 5 has none. Write 0, or 1'),
    'iscrowd a text': (one(4, 'iscrowd', '0'), ALL, "annotation 5 has '0'"),
    'no image_id': (one(4, 'image_id'), ALL, 'annotation 5 has none. Write the `id` of the image'),
    'no category_id': (one(4, 'category_id'), ALL, 'annotation 5 has none. Write the `id` of its'),
    'image_id a list': (one(4, 'image_id', [2]), ALL, r'annotation 5 has \[2\]'),
    'no height': (one(1, 'height', kind='images'), BOTH,
                  'a usable `height`.*image 1 has none. Write the height of the image in pixels'),
    'no width': (one(1, 'width', kind='images'), BOTH, 'image 1 has none. Write the width'),
    'height 0': (one(1, 'height', 0, 'images'), BOTH, 'image 1 has 0'),
    'width a text': (one(1, 'width', '64', 'images'), BOTH, "image 1 has '64'"),
    'no file_name': (one(1, 'file_name', kind='images'), BOTH, 'image 1 has none. Write the path'),
    'file_name a number': (one(1, 'file_name', 7, 'images'), BOTH, 'image 1 has 7'),
    'no name': (one(1, 'name', kind='categories'), ALL, 'category 2 has none. Write its name'),
    'name a number': (one(1, 'name', 3, 'categories'), ALL, 'category 2 has 3'),
    'no annotations': (without('annotations'), (TRAIN,), 'there is nothing to learn'),
    'no images': (without('images'), ALL, 'It has no `images`. It has the keys'),
    'no categories': (without('categories'), ALL, r'no `categories`. Write \[{"id": 1'),
    'images empty': (empty('images'), ALL, 'Its list of images is empty'),
    'categories empty': (empty('categories'), ALL, 'Its list of categories is empty'),
    'images a mapping': (lambda c: c.update(images={'0': c['images'][0]}), ALL, 'is no list, but'),
    'annotations null': (lambda c: c.update(annotations=None), ALL, '`annotations` is no list'),
    'annotation a number': (lambda c: c['annotations'].append(3), ALL, 'is no object, but 3'),
    'a list of detections': (lambda c: c['annotations'], ALL, 'a list, as files of detections'),
    'a number': (lambda c: 3, ALL, 'It holds one value'),
}  # fmt: skip


@pytest.mark.parametrize(
    ('case', 'by'), [(case, by) for case, (_, readers, _) in ERRORS.items() for by in readers]
)
def test_error_names_file_record_key_and_what_to_do(tmp_path: Path, case: str, by: str) -> None:
    change, _, says = ERRORS[case]
    data = wild.write(tmp_path, change)
    with pytest.raises(ValueError, match=r'^Expected argument `ann_file` to be a ') as caught:
        read(data, by)
    assert str(data / 'annotations.json') in str(caught.value)
    assert re.search(says, str(caught.value)), str(caught.value)


@pytest.mark.parametrize('case', [case for case, (_, readers, _) in ERRORS.items()
                                  if TRAIN not in readers])  # fmt: skip
def test_what_training_does_not_need_is_no_error_of_it(tmp_path: Path, case: str) -> None:
    clean = wild.objects(wild.build(wild.write(tmp_path / 'clean'), 'CocoDataset'))
    assert wild.objects(wild.build(wild.write(tmp_path, ERRORS[case][0]))) == clean


@pytest.mark.parametrize('case', ['area 0', 'beyond the image', 'ignored alone'])
def test_what_coco_metric_counts_is_counted(tmp_path: Path, case: str) -> None:
    data = wild.write(tmp_path, ERRORS[case][0])
    content = json.loads((data / 'annotations.json').read_text())
    found = wild.detections(content)
    assert math.isfinite(wild.by_metric(data, found)['score_quality/oLRP'])
    assert wild.by_coco_metric(data, found)['coco/bbox_mAP'] > 0


def many(count: int, key: str, value: object) -> wild.Change:
    def change(content: wild.Content) -> None:
        for annotation in content['annotations'][:count]:
            annotation[key] = value

    return change


WARNINGS: dict[str, tuple[wild.Change, tuple[str, ...], str]] = {
    'area 0': (many(3, 'area', 0), (TRAIN,), '3 of 12 annotations are dropped: 3 with an `area`'),
    'small': (many(1, 'bbox', [2, 2, 9, 0.5]), (TRAIN,), r'1 with a box less.*\[2, 2, 9, 0.5\]'),
    'outside': (many(2, 'bbox', [64, 2, 9, 9]), (TRAIN,), '2 of 12 .* 2 outside of their image'),
    'image': (many(2, 'image_id', 77), ALL, '2 of 12 .* 2 on an image .* `image_id` 77'),
    'category': (many(2, 'category_id', 9), ALL, '2 of 12 .* 2 of a category .* `category_id` 9'),
    'no annotation': (empty('annotations'), (TRAIN,), 'all its images are taken for background'),
    'annotation id 0': (one(2, 'id', 0), EVALUATION, 'has the `id` 0.*Number the annotations'),
    'annotation id "0"': (one(2, 'id', '0'), EVALUATION, 'has the `id` 0.*counts its object as'),
    'annotation ids from 0': (ids(lambda i: i - 1, 'annotations'), EVALUATION, 'the `id` 0'),
}


@pytest.mark.parametrize(
    ('case', 'by'), [(case, by) for case, (_, readers, _) in WARNINGS.items() for by in readers]
)
def test_one_warning_counts_and_shows(
    tmp_path: Path, case: str, by: str, warnings: list[str]
) -> None:
    change, _, says = WARNINGS[case]
    data = wild.write(tmp_path, change)
    read(data, by)
    (warning,) = warnings
    assert warning.startswith(f'{data / "annotations.json"}')
    assert re.search(says, warning), warning


INTENDED = {
    'some are ignored': many(3, 'ignore', 1),
    'some are crowds': many(3, 'iscrowd', 1),
    'nothing changed': lambda content: None,
    'ignored without a box': lambda content: content['annotations'].append(
        dict(id=99, image_id=0, category_id=1, ignore=True)
    ),
}


@pytest.mark.parametrize('case', INTENDED)
def test_what_is_intended_is_no_warning(tmp_path: Path, case: str, warnings: list[str]) -> None:
    data = wild.write(tmp_path, INTENDED[case])
    plain = wild.objects(wild.build(data, 'CocoDataset'))
    assert wild.objects(wild.build(data)) == plain
    assert warnings == []


@pytest.mark.parametrize('seed', range(4))
def test_count_of_the_dropped_is_mmdets(tmp_path: Path, seed: int, warnings: list[str]) -> None:
    """On boxes in and around the image, with every fault at random."""
    rng = np.random.default_rng(seed)

    def change(content: wild.Content) -> None:
        content['annotations'] = [
            dict(
                id=number,
                image_id=int(rng.integers(0, 8)),
                category_id=int(rng.integers(1, 4)),
                bbox=(rng.integers([-80, -80, -1, -1], [180, 180, 9, 9]) / 2).tolist(),
                area=float(rng.integers(0, 5)),
                iscrowd=0,
            )
            for number in range(1, 201)
        ]

    data = wild.write(tmp_path, change)
    kept = sum(len(image) - 1 for image in wild.objects(wild.build(data, 'CocoDataset')))
    wild.build(data)
    (warning,) = warnings
    assert f': {200 - kept} of 200 annotations are dropped: ' in warning


@pytest.mark.parametrize(('version', 'refused'), [
    ('2.0.8', False), ('2.0.9', True), ('2.0.10', True), ('2.0.11', False),
])  # fmt: skip
def test_info_is_needed_by_some_releases_of_pycocotools(
    tmp_path: Path, version: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('importlib.metadata.version', lambda package: version)
    data = wild.write(tmp_path)
    for by in EVALUATION:
        if refused:
            with pytest.raises(ValueError, match=rf'pycocotools {version} fails.*"info": {{}}'):
                read(data, by)
        else:
            read(data, by)
    read(data, TRAIN)
    wild.write(tmp_path, lambda content: content.update(info={}))
    read(data, METRIC)


@pytest.mark.parametrize('by', ALL)
def test_folder_for_a_file(tmp_path: Path, by: str) -> None:
    data = wild.write(tmp_path)
    (data / 'annotations.json').unlink()
    (data / 'annotations.json').mkdir()
    with pytest.raises(ValueError, match=r'COCO JSON.*It is a folder: give the path of the JSON'):
        read(data, by)


@pytest.mark.parametrize('by', ALL)
@pytest.mark.parametrize(
    ('content', 'says'),
    [(b'', 'It is empty'), (b' \n', 'It is empty'), ('{"images": ["é"]'.encode('latin-1'), 'UTF-8'),
     (b'{"images": [', 'JSONDecodeError'), (b'<annotation/>', 'JSONDecodeError')],
)  # fmt: skip
def test_no_json(tmp_path: Path, by: str, content: bytes, says: str) -> None:
    data = wild.write(tmp_path)
    (data / 'annotations.json').write_bytes(content)
    with pytest.raises(ValueError, match=f'a file of COCO JSON, but .*annotations.json.*{says}'):
        read(data, by)
