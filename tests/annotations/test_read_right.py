"""What mmdet reads right is read right here: the numbers are those of the clean file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('mmdet')

from helpers import wild_annotations as wild
from helpers.score_quality_by_hand import brute_lrp, by_hand
from helpers.wild_annotations import each, ids
from mmfocalx.compare import evaluation
from mmfocalx.evaluation import ScoreQualityMetric

BIG = 2**53


@pytest.fixture(scope='module')
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The clean file, detections on it, and what pycocotools and counting by hand say of them."""
    data = wild.write(tmp_path_factory.mktemp('clean'))
    content = json.loads((data / 'annotations.json').read_text())
    found = wild.detections(content)
    files = {image['file_name']: image['id'] for image in content['images']}
    names = {category['name']: category['id'] for category in content['categories']}
    rows = [dict(d, image_id=files[d['file']], category_id=names[d['name']]) for d in found]
    errors = [brute_lrp(*by_hand(content, rows, number, 0.5))[0] for number in names.values()]
    return dict(
        found=found,
        objects=wild.objects(wild.build(data, 'CocoDataset')),
        coco=wild.by_coco_metric(data, found),
        quality=wild.by_metric(data, found),
        olrp=sum(errors) / len(errors),
    )


def everything(*changes: wild.Change) -> wild.Change:
    def change(content: wild.Content) -> None:
        for one in changes:
            one(content)

    return change


def reverse(content: wild.Content) -> None:
    for records in (content['images'], content['annotations']):
        records.reverse()


RIGHT: dict[str, wild.Change] = {
    'nothing changed': lambda content: None,
    # what labelling tools write beside what is needed
    'date_captured 0': each('date_captured', 0, 'images'),
    'license of images a text': each('license', '', 'images'),
    'flat segmentation': each('segmentation', [1.0, 2.0, 9.0, 2.0, 9.0, 9.0]),
    'supercategory a number': each('supercategory', 1, 'categories'),
    'score a text': each('score', 'high'),
    'segmentation null': each('segmentation', lambda _: None),
    'counts of a mask null': each('segmentation', dict(size=[64, 64], counts=None)),
    'attributes': each('attributes', dict(occluded=False, rotation=0.0)),
    'keypoints a text': each('keypoints', 'none'),
    'num_keypoints a text': each('num_keypoints', ''),
    'coco_url a number': each('coco_url', 0, 'images'),
    'info a list': lambda content: content.update(info=[1]),
    'licenses null': lambda content: content.update(licenses=None),
    'isthing a text': each('isthing', 'yes', 'categories'),
    'skeleton a text': each('skeleton', '', 'categories'),
    'ignore 0': each('ignore', 0),
    # numbers of other types
    'iscrowd a bool': each('iscrowd', False),
    'iscrowd a float': each('iscrowd', 0.0),
    'sizes as floats': everything(
        each('width', 64.0, 'images'), each('height', 64.0, 'images')
    ),
    'boxes as floats': each('bbox', lambda a: [float(v) for v in a['bbox']]),
    # ids
    'image ids as texts': ids(lambda i: f'img_{i}'),
    'image ids as digits': ids(str),
    'image ids below 0': ids(lambda i: -7 * i - 1),
    'image ids above 2^53': ids(lambda i: BIG + i),
    'image ids of 19 digits': ids(lambda i: 9_223_372_036_854_775_000 + i),
    'image ids above 2^63': ids(lambda i: 2**64 + i),
    'image ids as floats': ids(lambda i: i + 0.5),
    'image ids in another order': reverse,
    'category ids above 2^53': ids(lambda i: BIG + i, 'categories'),
    'category ids from 0': ids(lambda i: i - 1, 'categories'),
    'category ids falling': ids(lambda i: 10 - i, 'categories'),
    'annotation ids as digits': ids(str, 'annotations'),
    'annotation ids above 2^53': ids(lambda i: BIG + i, 'annotations'),
}  # fmt: skip


@pytest.mark.parametrize('case', RIGHT)
def test_data_set_and_metric(tmp_path: Path, clean: dict[str, Any], case: str) -> None:
    data = wild.write(tmp_path, RIGHT[case])
    assert wild.by_coco_metric(data, clean['found']) == pytest.approx(clean['coco'])
    assert wild.objects(wild.build(data)) == clean['objects']
    assert wild.objects(wild.build(data, test_mode=True)) == clean['objects']
    quality = wild.by_metric(data, clean['found'])
    assert quality == pytest.approx(clean['quality'])
    assert quality['score_quality/oLRP'] == pytest.approx(clean['olrp'])


@pytest.mark.parametrize('case', RIGHT)
def test_comparison(
    tmp_path: Path, clean: dict[str, Any], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, 'REPLICATES', 5)
    data = wild.write(tmp_path, RIGHT[case])
    ap = wild.by_comparison(data, clean['found'])
    assert ap['mAP'] == pytest.approx(clean['coco']['coco/bbox_mAP'], abs=5e-4)  # 3 digits
    assert ap['AP75'] == pytest.approx(clean['coco']['coco/bbox_mAP_75'], abs=5e-4)


@pytest.mark.parametrize('case', ['image ids in another order', 'image ids as texts',
                                  'image ids below 0', 'image ids as digits'])  # fmt: skip
def test_equal_scores_are_taken_in_the_order_of_coco_metric(
    tmp_path: Path, clean: dict[str, Any], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, 'REPLICATES', 5)
    data = wild.write(tmp_path, RIGHT[case])
    found = [dict(d, score=0.5) for d in clean['found']]
    theirs = wild.by_coco_metric(data, found)
    ours = wild.by_comparison(data, found)
    assert ours['mAP'] == pytest.approx(theirs['coco/bbox_mAP'], abs=5e-4)
    assert ours['AP50'] == pytest.approx(theirs['coco/bbox_mAP_50'], abs=5e-4)


@pytest.mark.parametrize('lacking', ['iscrowd', 'area'])
def test_comparison_needs_no_more_than_boxes(
    tmp_path: Path, clean: dict[str, Any], lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, 'REPLICATES', 5)
    data = wild.write(tmp_path, lambda c: [a.pop(lacking) for a in c['annotations']] and None)
    ap = wild.by_comparison(data, clean['found'])
    assert ap['mAP'] == pytest.approx(clean['coco']['coco/bbox_mAP'], abs=5e-4)


def test_perfect_detections_on_large_ids_have_no_error(tmp_path: Path) -> None:
    data = wild.write(tmp_path, ids(lambda i: BIG + i))
    content = json.loads((data / 'annotations.json').read_text())
    found = [
        dict(d, bbox=a['bbox'], score=0.9)
        for d, a in zip(wild.detections(content)[::2], content['annotations'], strict=True)
    ]
    assert wild.by_metric(data, found)['score_quality/oLRP'] == 0
    assert wild.by_comparison(data, found)['mAP'] == pytest.approx(1)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-32'])
def test_byte_order_mark(tmp_path: Path, clean: dict[str, Any], encoding: str) -> None:
    data = wild.write(tmp_path)
    file = data / 'annotations.json'
    file.write_text(file.read_text(), encoding=encoding)
    assert wild.objects(wild.build(data)) == clean['objects']
    assert wild.by_metric(data, clean['found']) == pytest.approx(clean['quality'])
    assert wild.by_comparison(data, clean['found'])['mAP'] > 0.1


@pytest.mark.parametrize('arguments', [None, dict(backend='local')])
def test_backend_of_the_metric(
    tmp_path: Path, clean: dict[str, Any], arguments: dict[str, str] | None
) -> None:
    data = wild.write(tmp_path)
    quality = wild.by_metric(data, clean['found'], backend_args=arguments)
    assert quality == pytest.approx(clean['quality'])


def test_backend_is_asked_for_the_file(tmp_path: Path) -> None:
    data = wild.write(tmp_path)
    with pytest.raises(Exception, match='nowhere'):
        ScoreQualityMetric(str(data / 'annotations.json'), backend_args=dict(backend='nowhere'))


def test_images_without_detections_may_be_of_elsewhere(
    tmp_path: Path, clean: dict[str, Any]
) -> None:
    data = wild.write(tmp_path)
    content = json.loads((data / 'annotations.json').read_text())
    content['images'].append(dict(id=99, file_name='extra.jpg'))
    quality = wild.by_metric(data, clean['found'], content)
    assert quality == pytest.approx(clean['quality'])


@pytest.mark.parametrize('offset', [100, -3, 'img_'])
def test_file_of_another_split_is_refused_as_by_coco_metric(
    tmp_path: Path, clean: dict[str, Any], offset: Any
) -> None:
    data = wild.write(tmp_path)
    content = json.loads((data / 'annotations.json').read_text())
    ids(lambda i: f'{offset}{i}' if isinstance(offset, str) else i + offset)(content)
    name = repr(content['images'][0]['id'])
    with pytest.raises(ValueError, match=f'the id {name}, which .*annotations.json does not list'):
        wild.by_metric(data, clean['found'], content)


def test_prediction_on_an_unknown_image_is_an_error_of_the_comparison(tmp_path: Path) -> None:
    from mmfocalx.evaluation.annotations import ground_truth

    data = wild.write(tmp_path)
    row = dict(image_id=17, category_id=1, bbox=[1, 2, 3, 4], score=0.5)
    truth = ground_truth(str(data / 'annotations.json'))
    with pytest.raises(ValueError, match=r'id 17, which .*annotations.json does not list'):
        truth.rows([row])
    with pytest.raises(ValueError, match=r'category 9, which .*annotations.json does not list'):
        truth.rows([dict(row, image_id=1, category_id=9)])
    assert truth.rows([]).shape == (0, 7)


def test_test_split_without_annotations_is_predicted_on(
    tmp_path: Path, clean: dict[str, Any]
) -> None:
    data = wild.write(tmp_path, lambda content: content.pop('annotations') and None)
    dataset = wild.build(data, test_mode=True)
    assert [len(info) for info in wild.objects(dataset)] == [1] * 6  # the name alone
    quality = wild.by_metric(data, clean['found'])
    assert quality['score_quality/oLRP'] != quality['score_quality/oLRP']  # NaN
    prefix = data / 'predicted'
    metric = wild.CocoMetric(
        str(data / 'annotations.json'), format_only=True, outfile_prefix=str(prefix)
    )
    metric.dataset_meta = dict(classes=wild.CLASSES)
    content = json.loads((data / 'annotations.json').read_text())
    metric.process({}, wild.as_samples(content, clean['found']))
    metric.evaluate(6)
    assert len(json.loads((data / 'predicted.bbox.json').read_text())) == len(clean['found'])


def test_gzip_is_told_from_text(tmp_path: Path) -> None:
    data = wild.write(tmp_path)
    file = data / 'annotations.json'
    file.write_bytes(gzip.compress(file.read_bytes()))
    for read in (wild.build, lambda data: wild.by_metric(data, [], {})):
        with pytest.raises(ValueError, match=r'annotations\.json.*compressed with gzip'):
            read(data)
