"""Finished runs with made-up detections: everything that a report is made of, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import stub_tools
from mmfocalx.compare.report import Report
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.files import file_hash


def write_dataset(root: Path, classes: Sequence[str], images: int = 12, seed: int = 0) -> Path:
    """Noise with boxes of all classes, the first classes the most frequent."""
    (root / 'images').mkdir(parents=True)
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(classes) + 1)
    records, boxes = [], []
    for index in range(images):
        noise = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(root / 'images' / f'{index}.jpg')
        records.append(dict(id=index, file_name=f'{index}.jpg', width=160, height=120))
        drawn = rng.choice(len(classes), size=8, p=weights / weights.sum())
        for category in [*drawn, (index * 7) % len(classes), (index * 7 + 3) % len(classes)]:
            x, y, w, h = (float(v) for v in (*rng.uniform(0, 90, 2), *rng.uniform(14, 28, 2)))
            boxes.append(
                dict(id=len(boxes) + 1, image_id=index, category_id=int(category) + 1,
                     bbox=[x, y, w, h], area=w * h, iscrowd=0)
            )  # fmt: skip
    categories = [dict(id=k, name=name) for k, name in enumerate(classes, 1)]
    content = dict(images=records, annotations=boxes, categories=categories)
    (root / 'annotations.json').write_text(json.dumps(content))
    return root


def detections(truth: dict, seed: int, spread: float, without: int = 0) -> list[dict]:
    """Boxes near the objects, some twice, some of the wrong class, and some from nowhere."""
    rng = np.random.default_rng(seed)
    number = len(truth['categories'])
    found = []
    for annotation in truth['annotations']:
        for _ in range(rng.integers(0, 3)):
            x, y, w, h = np.array(annotation['bbox']) + rng.normal(0, spread, 4)
            category = annotation['category_id'] if rng.random() < 0.9 else 1
            found.append(dict(image_id=annotation['image_id'], category_id=category,
                              bbox=[x, y, max(w, 2), max(h, 2)], score=rng.random()))  # fmt: skip
    for image in truth['images']:
        for _ in range(rng.integers(0, 4)):
            found.append(
                dict(image_id=image['id'], category_id=int(rng.integers(1, number + 1)),
                     score=rng.random() / 2, bbox=[*rng.uniform(0, 40, 2), 15, 15])
            )  # fmt: skip
    return [d for d in found if d['category_id'] != without]


def finish(run: Run, data: Path, seed: int, spread: float, without: int = 0) -> Outcome:
    """A run with a result, predictions and curves in its folder."""
    annotations = data / 'annotations.json'
    truth = json.loads(annotations.read_text())
    run.result_file.parent.mkdir(parents=True)
    predictions = run.result_file.parent / 'found.json'
    predictions.write_text(json.dumps(detections(truth, seed, spread, without)))
    logs = run.work_dir / '1' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [{'loss': (1 + run.seed) / e, 'epoch': e, 'step': 10 * e} for e in range(1, 13)]
    rows += [{'coco/bbox_mAP': 0.04 * step + 0.01 * seed, 'step': step} for step in range(1, 13)]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    result = dict(
        name=run.name, seed=run.seed, split='val', annotations=str(annotations),
        images=str(data / 'images'), predictions='found.json', train_seconds=100.0 + run.seed,
        predictions_hash=file_hash(predictions), peak_rss_mb=500.0, iterations=40,
        identity=dict(training={}, testing={str(annotations): file_hash(annotations)}),
        versions={'torch': '2'}, metrics={f'coco/bbox_mAP{s}': 0.5 for s in ('', '_50', '_75')},
    )  # fmt: skip
    run.result_file.write_text(json.dumps(result))
    return Outcome(run, result)


def make(root: Path, data: Path, names: Sequence[str], seeds: Sequence[int] = (0, 1)) -> Report:
    """A report that knows of all runs of some configs, from worse to better ones."""
    outcomes = []
    for k, name in enumerate(names):
        config = stub_tools.write_config(root / f'{name}.py', data, step=k)
        for seed in seeds:
            run = Run(name, seed, config, root / 'out' / 'runs' / name / f'seed{seed}')
            outcomes.append(finish(run, data, 10 * k + seed, 3 - 2 * k / len(names)))
    return report_on(root / 'out', outcomes)


def report_on(root: Path, outcomes: Sequence[Outcome]) -> Report:
    """A report that knows of some outcomes."""
    report = Report([outcome.run for outcome in outcomes], root, 'python tools/compare.py a.py')
    for outcome in outcomes:
        report.add(outcome)
    return report
