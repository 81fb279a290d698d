"""Configs with everything merged in: their hash, and the files that training and test read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mmengine.config import Config

PREDICTIONS = 'predictions'


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
    if config_hash(Config.fromfile(str(path), import_custom_modules=False)) != config_hash(config):
        raise ValueError(f'{config.filename} holds values that a written config cannot express')
    return path


def test_setup(config: Config, split: str, test_dir: Path) -> tuple[Config, dict[str, str]]:
    """The config that tests a split and keeps the detections as COCO JSON in ``test_dir``.

    Returns:
        The config, and the files to judge the detections by: ``predictions`` (in ``test_dir``),
        ``annotations`` and the directory ``images``.

    Raises:
        ValueError: If the split has no CocoMetric.
    """
    config = Config(config.to_dict(), filename=config.filename)
    for part in ('dataloader', 'evaluator'):
        config[f'test_{part}'] = config.get(f'{split}_{part}')
    config.test_cfg = dict(type='TestLoop')
    evaluators = config.test_evaluator
    if not isinstance(evaluators, (list, tuple)):
        evaluators = [evaluators]
    coco = [one for one in evaluators if one and str(one.get('type')).endswith('CocoMetric')]
    if not coco:
        raise ValueError(f"{split}_evaluator of {config.filename} has no 'CocoMetric'")
    coco[0].update(classwise=True, outfile_prefix=str(test_dir / PREDICTIONS), format_only=False)
    dataset = config.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    root = Path(dataset.get('data_root') or '')
    return config, {
        'predictions': f'{PREDICTIONS}.bbox.json',
        'annotations': str(coco[0].get('ann_file') or root / dataset.ann_file),
        'images': str(root / dataset.get('data_prefix', {}).get('img', '')),
    }
