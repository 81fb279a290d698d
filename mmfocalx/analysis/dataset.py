"""What a data set holds, and the settings of a loss that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from mmfocalx.analysis.dataset_notes import health, notes_on_counts, notes_on_targets
from mmfocalx.analysis.head_targets import HeadTargets, head_targets
from mmfocalx.analysis.object_sizes import (
    AnchorRange,
    ClassSizes,
    coco_size_shares,
    notes_on_anchors,
    sizes_of_classes,
)
from mmfocalx.analysis.suggestions import (
    LearningRate,
    alpha_of_gamma,
    bias_prior,
    class_alpha,
    effective_weights,
    inverse_weights,
    learning_rate,
    scalar_alpha,
)
from mmfocalx.errors import check_choice
from mmfocalx.evaluation.annotations import ground_truth

BALANCES = ('effective', 'inverse', 'none')


class ClassFacts(NamedTuple):
    """A class of a data set.

    Attributes:
        name: Of the class.
        objects: Objects that are no crowd.
        images: Images with such an object.
        positives: Positives that the config's head assigns; None without a config.
        effective: Weight by effective number of samples.
        inverse: Weight by inverse frequency.
        effective_alpha: The alpha that the weight makes of the scalar one.
        inverse_alpha: The same of the other weight.
    """

    name: str
    objects: int
    images: int
    positives: int | None
    effective: float
    inverse: float
    effective_alpha: float
    inverse_alpha: float


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for.

    Args:
        balance: Which weights of classes the snippet takes, one of :data:`BALANCES`.
        effective_beta: Of the effective number of samples, in [0, 1).
        most_images: Of more images, as many are drawn to count foreground and background.

    Raises:
        ValueError: for an unknown balance.
    """

    balance: str = 'effective'
    effective_beta: float = 0.999
    most_images: int = 1000

    def __post_init__(self) -> None:
        check_choice('balance', self.balance, BALANCES)


@dataclass(frozen=True)
class DatasetStudy:
    """Everything that a report on a data set says.

    Attributes:
        annotations: The file.
        config: The config's path, if one was given.
        wanted: What was asked for.
        stats: hotcoco's statistics of images and annotations.
        classes: In the order of the labels: of the file, those that the config trains on.
        sizes: (G,) square roots of the areas of boxes, in pixels of the original images.
        class_sizes: How large the objects of each class are, at the scale of training with a
            config, else in the original images.
        targets: What the config's head assigns; None without a config.
        gamma: Of the config's loss, else 2.
        alpha: Scalar alpha for that gamma.
        balanced_alpha: Scalar alpha for gamma 0; None without a config.
        prior: Score that a classifier starts with.
        softmax: Whether the config's loss is softmax.
        rate: Hint for the learning rate.
        notes: What a reader has to know, in sentences.
    """

    annotations: Path
    config: Path | None
    wanted: Wanted
    stats: dict[str, Any]
    classes: list[ClassFacts]
    sizes: NDArray[np.float64]
    class_sizes: list[ClassSizes]
    targets: HeadTargets | None
    gamma: float
    alpha: float
    balanced_alpha: float | None
    prior: float
    softmax: bool
    rate: LearningRate
    notes: list[str]

    @property
    def imbalance(self) -> float:
        """Objects of the most frequent class for each of the rarest that has any."""
        counts = [one.objects for one in self.classes if one.objects]
        return max(counts) / min(counts) if counts else float('nan')

    @property
    def size_shares(self) -> dict[str, float]:
        """Shares of COCO's size classes, in pixels of the original images."""
        return coco_size_shares(self.sizes)

    @property
    def scale(self) -> str:
        """Where the sizes of each class are measured."""
        return 'at the scale of training' if self.targets else 'in the original images'

    @property
    def anchors(self) -> AnchorRange | None:
        """Those that the config's head matches to objects by IoU."""
        return self.targets.anchors if self.targets else None

    @property
    def class_alpha(self) -> list[float] | None:
        """What the snippet sets; None for one number."""
        if self.wanted.balance == 'none':
            return None
        return [getattr(one, f'{self.wanted.balance}_alpha') for one in self.classes]

    def as_json(self) -> dict[str, Any]:
        """The numbers for programs."""
        targets = self.targets
        return {
            'annotations': str(self.annotations),
            'config': self.config and str(self.config),
            'stats': self.stats,
            'imbalance': self.imbalance if self.sizes.size else None,
            'size_shares': self.size_shares,
            'classes': [one._asdict() for one in self.classes],
            'scale_of_sizes': self.scale,
            'class_sizes': [one.as_json() for one in self.class_sizes],
            'anchors': self.anchors and self.anchors._asdict(),
            'targets': targets and {
                'head': targets.head,
                'images': targets.images,
                'foreground': targets.foreground,
                'levels': [level._asdict() for level in targets.levels],
            },
            'suggestions': {
                'gamma': self.gamma,
                'alpha': self.alpha,
                'alpha_for_gamma_0': self.balanced_alpha,
                'class_alpha': self.class_alpha,
                'bias_prior': self.prior,
                'learning_rate': self.rate._asdict(),
            },
            'notes': self.notes,
        }  # fmt: skip


def study_dataset(annotations: Path, config_path: Path | None, wanted: Wanted) -> DatasetStudy:
    """Describe a data set.

    Args:
        annotations: COCO JSON.
        config_path: Config of a dense detector, to count its foreground and background.
        wanted: What is asked for.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what it should be.
    """
    truth = ground_truth(str(annotations))
    names = dict(enumerate(truth.class_names))
    notes = health(annotations)
    config = targets = None
    loss: dict[str, Any] = {}
    if config_path is not None:
        config = Config.fromfile(str(config_path))
        targets = head_targets(config, annotations, wanted.most_images)
        loss = config.model.bbox_head.get('loss_cls') or {}
        trained = {k: names[k] for k in (truth.category_index[i] for i in targets.class_ids)}
        notes += notes_on_targets(targets, [n for k, n in names.items() if k not in trained])
        names = trained
    objects = [
        one
        for one in truth.coco.dataset['annotations']
        if one['category_id'] in names and not one.get('iscrowd')
    ]
    gamma = loss.get('gamma')
    gamma = float(gamma) if isinstance(gamma, (int, float)) else 2.0
    alpha = alpha_of_gamma(gamma)
    balanced = scalar_alpha(targets.foreground) if targets else None
    if gamma == 0 and balanced is not None:
        alpha = balanced
    notes += notes_on_counts(objects, names)
    sizes = np.array([max(0.0, one['bbox'][2] * one['bbox'][3]) ** 0.5 for one in objects])
    label_of = {key: label for label, key in enumerate(names)}
    labels = np.array([label_of[one['category_id']] for one in objects], dtype=np.int64)
    anchors = targets.anchors if targets else None
    measured, measured_labels = (targets.sizes, targets.labels) if targets else (sizes, labels)
    class_sizes = sizes_of_classes([*names.values()], measured, measured_labels, anchors)
    notes += notes_on_anchors(class_sizes, anchors)
    return DatasetStudy(
        annotations=annotations,
        config=config_path,
        wanted=wanted,
        stats={key: value for key, value in truth.coco.stats().items() if key != 'per_category'},
        classes=_classes(names, objects, targets, alpha, wanted.effective_beta),
        sizes=sizes,
        class_sizes=class_sizes,
        targets=targets,
        gamma=gamma,
        alpha=alpha,
        balanced_alpha=balanced,
        prior=bias_prior(targets.ones if targets else 0.0),
        softmax=loss.get('use_sigmoid') is False,
        rate=_rate(config),
        notes=notes,
    )


def _classes(
    names: dict[int, str],
    objects: Sequence[dict[str, Any]],
    targets: HeadTargets | None,
    alpha: float,
    beta: float,
) -> list[ClassFacts]:
    counts = [sum(one['category_id'] == key for one in objects) for key in names]
    images = [len({o['image_id'] for o in objects if o['category_id'] == key}) for key in names]
    positives = [int(number) for number in targets.class_positives] if targets else None
    effective, inverse = effective_weights(counts, beta), inverse_weights(counts)
    weights = effective, inverse, class_alpha(alpha, effective), class_alpha(alpha, inverse)
    return [
        ClassFacts(name, counts[k], images[k], positives[k] if positives else None,
                   *(float(w[k]) for w in weights))
        for k, name in enumerate(names.values())
    ]  # fmt: skip


def _rate(config: Config | None) -> LearningRate:
    if config is None:
        return learning_rate(None)
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    batch_size = (config.get('train_dataloader') or {}).get('batch_size') or 16
    base = (config.get('auto_scale_lr') or {}).get('base_batch_size')
    return learning_rate(optimizer, batch_size, base)
