"""What a config's head makes of annotations: positives, negatives and ignored of each level."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from mmfocalx.analysis.object_sizes import AnchorRange, anchor_range
from mmfocalx.analysis.target_counter import Level, TargetCounter
from mmfocalx.compare.resolved_config import datasets

LOADER = 'LoadImageFromFile'


@dataclass(frozen=True)
class HeadTargets:
    """What a head assigned.

    Attributes:
        head: Its type.
        class_ids: (C,) category ids in the order of the labels.
        images: Number of images that were run.
        levels: One for each level.
        class_positives: (C,) positives of each class.
        sizes: (G,) square roots of the areas of the objects' boxes, at the scale of training.
        labels: (G,) classes of these objects.
        anchors: The sizes of its anchors, if it matches them to objects by IoU.
        init_cfg: Of the head.
        depends_on_predictions: Whether other predictions would give other positives.
    """

    head: str
    class_ids: tuple[int, ...]
    images: int
    levels: list[Level]
    class_positives: NDArray[np.int64]
    sizes: NDArray[np.float64]
    labels: NDArray[np.int64]
    anchors: AnchorRange | None
    init_cfg: Any
    depends_on_predictions: bool

    @property
    def positives(self) -> int:
        """Of all levels."""
        return sum(level.positives for level in self.levels)

    @property
    def negatives(self) -> int:
        """Of all levels."""
        return sum(level.negatives for level in self.levels)

    @property
    def foreground(self) -> float:
        """The share of positives among positives and negatives."""
        return self.positives / max(1, self.positives + self.negatives)

    @property
    def ones(self) -> float:
        """The share of ones among the targets of all classes."""
        return self.foreground / len(self.class_ids)


def head_targets(config: Config, annotations: Path, most_images: int) -> HeadTargets:
    """Run the head's own targets on annotations, at the scale that the config trains on.

    The config's data set, training pipeline and preprocessor are run on blank images, image by
    image; the head's ``loss_by_feat`` then computes its targets, which are counted where it hands
    them to ``loss_cls``. Only the head is built.

    Args:
        config: Of a dense detector of mmdet.
        annotations: COCO JSON that takes the place of the training annotations.
        most_images: Of more images than this, as many are drawn.

    Raises:
        ValueError: If the config is of another kind; the message says what is missing.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    with _seeded():
        head = _head(config)
        dataset = _dataset(config, annotations)
        if len(dataset.cat_ids) != head.num_classes:
            raise ValueError(
                f'bbox_head of {config.filename} has num_classes={head.num_classes}, but '
                f'{annotations} has {len(dataset.cat_ids)} of the classes that it trains on: '
                f'{list(dataset.metainfo["classes"])}'
            )
        preprocessor = MODELS.build(config.model.data_preprocessor)
        counted = TargetCounter(head)
        chosen: Sequence[int] = range(len(dataset))
        if len(dataset) > most_images:
            drawn = np.random.default_rng(0).choice(len(dataset), most_images, replace=False)
            chosen = sorted(drawn.tolist())
        for index in tqdm(chosen, desc='images', disable=None):
            packed = dataset.prepare_data(index)
            if packed is None:  # the pipeline leaves it out of training, too
                continue
            batch = {key: [value] for key, value in packed.items()}
            counted.add(**preprocessor(batch, training=True))
    return HeadTargets(
        head=type(head).__name__,
        class_ids=tuple(dataset.cat_ids),
        images=counted.images,
        levels=counted.levels(),
        class_positives=counted.class_positives,
        sizes=np.concatenate([np.zeros(0), *counted.sizes]),
        labels=np.concatenate([np.zeros(0, dtype=np.int64), *counted.labels]),
        anchors=anchor_range(head),
        init_cfg=head.init_cfg,
        depends_on_predictions=counted.depends_on_predictions,
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """Random numbers that are the same each time, and afterwards as if none had been drawn."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002, pipelines draw from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def _head(config: Config) -> Any:
    model = config.get('model') or {}
    settings = deepcopy(model.get('bbox_head'))
    if not isinstance(settings, dict):
        raise ValueError(
            f'{config.filename} has no model.bbox_head: foreground and background are counted for '
            'dense one-stage detectors, such as RetinaNet, FCOS or ATSS'
        )
    settings.update(train_cfg=model.get('train_cfg'), test_cfg=model.get('test_cfg'))
    head = _built(MODELS, settings, f'bbox_head of {config.filename}')
    for part, kind in (('loss_cls', nn.Module), ('prior_generator', object), ('in_channels', int)):
        if not isinstance(getattr(head, part, None), kind):
            raise ValueError(
                f'{type(head).__name__} of {config.filename} has no {part}: foreground and '
                'background are counted for heads that classify every anchor or point'
            )
    return head


def _dataset(config: Config, annotations: Path) -> Any:
    found = datasets(config, 'train')
    if not found:
        raise ValueError(f'train_dataloader of {config.filename} has no data set')
    settings = deepcopy(found[0])
    settings.update(ann_file=str(annotations.resolve()), data_root='', data_prefix=dict(img=''))
    settings.pop('indices', None)
    pipeline = list(settings.get('pipeline') or ())
    if LOADER not in [transform.get('type') for transform in pipeline]:
        raise ValueError(
            f'The training pipeline of {config.filename} has no {LOADER} to be run on blank images'
        )
    if not str(pipeline[-1].get('type')).endswith('PackDetInputs'):
        raise ValueError(f'The training pipeline of {config.filename} must end with PackDetInputs')
    settings['pipeline'] = [
        blank_image if transform.get('type') == LOADER else transform for transform in pipeline
    ]
    dataset = _built(DATASETS, settings, f'The training data set of {config.filename}')
    if not hasattr(dataset, 'cat_ids'):
        raise ValueError(f'The training data set of {config.filename} must be a CocoDataset')
    return dataset


def _built(registry: Any, settings: Any, what: str) -> Any:
    try:
        return registry.build(settings)
    except Exception as error:  # whatever its author asks for
        raise ValueError(f'{what} cannot be built: {type(error).__name__}: {error}') from error


def blank_image(results: dict[str, Any]) -> dict[str, Any]:
    """A transform that takes the place of the loader of images."""
    shape = results['height'], results['width']
    return {
        **results,
        'img': np.zeros((*shape, 3), dtype=np.uint8),
        'img_shape': shape,
        'ori_shape': shape,
    }
