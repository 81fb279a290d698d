"""Configs with everything merged in: what they train and test on, and the files for either."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import MMLogger

PREDICTIONS = 'predictions'


class SplitData(NamedTuple):
    """What a split is judged by.

    Attributes:
        detector: Type of the model.
        annotations: Absolute path of the annotation file.
        images: Absolute path of the folder of the images.
        classes: Names that the detector tells apart; empty where the data set's own hold.
    """

    detector: str
    annotations: str
    images: str
    classes: tuple[str, ...]


def read_config(path: Path) -> Config:
    """What a config file and its bases say; mmengine's lines on environment variables are left out.

    Raises:
        Exception: Of any type, if it cannot be read.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        return Config.fromfile(str(path), import_custom_modules=False)
    finally:
        logger.setLevel(level)


def config_hash(config: Config) -> str:
    """Hash of everything that a resolved config says, whatever file it came from."""
    text = json.dumps(config.to_dict(), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_config(config: Config, path: Path) -> Path:
    """Write a resolved config, and make sure that it reads back as the same.

    Raises:
        ValueError: If it does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config.dump(path)
    if config_hash(read_config(path)) != config_hash(config):
        raise ValueError(f'{config.filename} holds values that a written config cannot express')
    return path


def training_length(config: Config) -> int:
    """Epochs of the training, or iterations where it counts those."""
    loop = config.train_cfg
    return int(loop.get('max_epochs') or loop.max_iters)


def training_config(config: Config) -> Config:
    """The config that trains, with its checkpoints in the working directory."""
    config = Config(config.to_dict(), filename=config.filename)
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    hook.pop('out_dir', None)  # of every config it would be the same: its name ends with the seed
    return config


def testing_config(config: Config, split: str, test_dir: Path) -> Config:
    """The config that tests a split and stores the detections as COCO JSON in ``test_dir``.

    Raises:
        ValueError: If the split has no CocoMetric of boxes.
    """
    config = Config(config.to_dict(), filename=config.filename)
    for part in ('dataloader', 'evaluator'):
        config[f'test_{part}'] = config.get(f'{split}_{part}')
    config.test_cfg = dict(type='TestLoop')
    coco_metric(config, 'test', called=split).update(
        classwise=True, outfile_prefix=str(test_dir / PREDICTIONS), format_only=False, prefix='coco'
    )
    return config


def coco_metric(config: Config, split: str, called: str = '') -> Any:
    """The first CocoMetric of a split that measures boxes.

    Args:
        config: The config.
        split: Split whose evaluator is searched.
        called: Name of the split in errors.

    Raises:
        ValueError: If there is none.
    """
    evaluators = config.get(f'{split}_evaluator')
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    found = [e for e in evaluators if e and str(e.get('type')).endswith('CocoMetric')]
    for metric in found:
        measured = metric.get('metric', 'bbox')
        if 'bbox' in ([measured] if isinstance(measured, str) else measured):
            return metric
    what = "whose metric is 'bbox'" if found else "such as dict(type='CocoMetric', ann_file=...)"
    raise ValueError(f"{called or split}_evaluator of {config.filename} has no 'CocoMetric' {what}")


def datasets(config: Config, split: str) -> list[Any]:
    """The configs of the data sets of a split, out of their wrappers."""
    loader = config.get(f'{split}_dataloader') or {}
    return list(_unwrapped(loader.get('dataset')))


def _unwrapped(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, (list, tuple)):
        for part in dataset:
            yield from _unwrapped(part)
    elif isinstance(dataset, Mapping):
        inner = dataset.get('dataset', dataset.get('datasets'))
        if inner is None:
            yield dataset
        else:
            yield from _unwrapped(inner)


def annotation_files(config: Config, split: str) -> list[Path]:
    """Absolute paths of the annotation files of a split's data sets."""
    found = []
    for dataset in datasets(config, split):
        names = dataset.get('ann_file') or ()
        for name in [names] if isinstance(names, str) else names:
            found.append(_absolute(dataset, str(name)))
    return found


def split_data(config: Config, split: str) -> SplitData:
    """What a split of a config is judged by.

    Raises:
        ValueError: If the split cannot be judged; the message names what is missing.
    """
    metric = coco_metric(config, split)
    found = datasets(config, split)
    if not found:
        raise ValueError(f'{split}_dataloader of {config.filename} has no data set')
    dataset = found[0]
    named = metric.get('ann_file')
    if not named and not dataset.get('ann_file'):
        raise ValueError(f'the data set of {split}_dataloader of {config.filename} has no ann_file')
    annotations = Path(named).resolve() if named else _absolute(dataset, str(dataset.ann_file))
    images = _absolute(dataset, str((dataset.get('data_prefix') or {}).get('img', '')))
    classes = (dataset.get('metainfo') or {}).get('classes', ())
    return SplitData(
        str(config.model.type).removeprefix('mmdet.'),
        str(annotations),
        str(images),
        (classes,) if isinstance(classes, str) else tuple(classes),
    )


def _absolute(dataset: Any, name: str) -> Path:
    return (Path(dataset.get('data_root') or '') / name).resolve()
