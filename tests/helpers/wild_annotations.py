"""A small data set, its annotation file changed as labelling tools write it, and what reads it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.evaluation import CocoMetric
from mmdet.utils import register_all_modules
from mmengine.registry import DATASETS, init_default_scope

import mmfocalx.datasets.coco  # noqa: F401
from helpers import stub_tools
from helpers.tiny_detection import CLASSES, write_dataset
from mmfocalx.compare import evaluation
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.evaluation import ScoreQualityMetric
from mmfocalx.files import file_hash

Content = dict[str, Any]
Change = Callable[[Content], Any]
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path')),
]


def write(root: Path, change: Change | None = None) -> Path:
    """The data set in ``root/data``, with a changed annotation file."""
    data = root / 'data'
    if not data.exists():
        write_dataset(data, images=6)
    file = data / 'annotations.json'
    if change is not None:
        content = json.loads(file.read_text())
        content = change(content) or content
        file.write_text(json.dumps(content))
    return data


def build(data: Path, type_: str = 'CheckedCocoDataset', **changes: Any) -> Any:
    register_all_modules(init_default_scope=False)
    init_default_scope('mmdet')
    config = dict(
        type=type_,
        data_root=str(data),
        ann_file='annotations.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        pipeline=PIPELINE,
    )
    return DATASETS.build({**config, **changes})


def objects(dataset: Any) -> list[tuple[Any, ...]]:
    """What is learnt from each image: its file, and box, label and crowd flag of each object."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return sorted(
        (
            Path(info['img_path']).name,
            *sorted((*one['bbox'], one['bbox_label'], one['ignore_flag'])
                    for one in info['instances']),
        )
        for info in infos
    )  # fmt: skip


def detections(clean: Content) -> list[dict[str, Any]]:
    """Detections near the objects, some of them wrong, by the names of file and category."""
    rng = np.random.default_rng(3)
    files = {image['id']: image['file_name'] for image in clean['images']}
    names = {category['id']: category['name'] for category in clean['categories']}
    scores = iter(rng.permutation(2 * len(clean['annotations'])) / 100 + 0.505)
    found = []
    for annotation in clean['annotations']:
        for _ in range(2):
            shift = rng.normal(0, 2.5, 4)
            found.append(
                dict(
                    file=files[annotation['image_id']],
                    name=names[annotation['category_id']],
                    bbox=[float(v) for v in np.array(annotation['bbox']) + shift],
                    score=float(next(scores)),
                )
            )
    return found


def as_samples(content: Content, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Detections as metrics of mmdet get them, with the ids and labels of an annotation file."""
    labels = {category['name']: k for k, category in enumerate(content['categories'])}
    samples = []
    for image in content['images']:
        own = [d for d in found if d['file'] == image['file_name']]
        boxes = torch.tensor([d['bbox'] for d in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        samples.append(
            dict(
                img_id=image['id'],
                ori_shape=(64, 64),
                pred_instances=dict(
                    bboxes=boxes,
                    scores=torch.tensor([d['score'] for d in own], dtype=torch.float64),
                    labels=torch.tensor([labels[d['name']] for d in own], dtype=torch.int64),
                ),
            )
        )
    return samples


def by_metric(
    data: Path, found: list[dict[str, Any]], content: Content | None = None, **options: Any
) -> dict[str, float]:
    """What ScoreQualityMetric reports."""
    file = data / 'annotations.json'
    metric = ScoreQualityMetric(str(file), **options)
    return _evaluate(metric, content or json.loads(file.read_bytes()), found)


def by_coco_metric(data: Path, found: list[dict[str, Any]]) -> dict[str, float]:
    """What mmdet's CocoMetric reports."""
    file = data / 'annotations.json'
    with contextlib.redirect_stdout(io.StringIO()):
        return _evaluate(CocoMetric(str(file)), json.loads(file.read_bytes()), found)


def _evaluate(metric: Any, content: Content, found: list[dict[str, Any]]) -> dict[str, float]:
    metric.dataset_meta = dict(classes=CLASSES)
    samples = as_samples(content, found)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def by_comparison(data: Path, found: list[dict[str, Any]]) -> dict[str, float]:
    """MAP, AP50 and AP75 of the comparison, in percent."""
    file = data / 'annotations.json'
    content = json.loads(file.read_bytes())
    images = {image['file_name']: image['id'] for image in content['images']}
    categories = {category['name']: category['id'] for category in content['categories']}
    predicted = [
        dict(image_id=images[d['file']], category_id=categories[d['name']], bbox=d['bbox'],
             score=d['score'])
        for d in found
    ]  # fmt: skip
    config = stub_tools.write_config(data / 'config.py', data)
    run = Run('config', 0, config, data / 'run')
    run.result_file.parent.mkdir(parents=True, exist_ok=True)
    path = run.result_file.parent / 'found.json'
    path.write_text(json.dumps(predicted))
    result = dict(annotations=str(file), predictions=path.name, metrics={},
                  predictions_hash=file_hash(path))  # fmt: skip
    return evaluation.evaluate(Outcome(run, result)).ap


def each(key: str, value: Any, kind: str = 'annotations') -> Change:
    """Write a value, or what a function makes of a record, to a key of every record."""

    def change(content: Content) -> None:
        for record in content[kind]:
            record[key] = value(record) if callable(value) else value

    return change


def one(position: int, key: str, value: Any = None, kind: str = 'annotations') -> Change:
    """Write a value to a key of one record; without one the key goes."""

    def change(content: Content) -> None:
        if value is None:
            del content[kind][position][key]
        else:
            content[kind][position][key] = value

    return change


def ids(new: Callable[[int], Any], kind: str = 'images') -> Change:
    """Give the images, categories or annotations other ids, everywhere."""
    key = {'images': 'image_id', 'categories': 'category_id'}.get(kind)

    def change(content: Content) -> None:
        for record in content[kind]:
            record['id'] = new(record['id'])
        if key:
            for annotation in content['annotations']:
                annotation[key] = new(annotation[key])

    return change
