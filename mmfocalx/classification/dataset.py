"""Images in folders that are named after their classes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine import fileio
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.structures import BaseDataElement

from mmfocalx.datasets import imbalanced_digits
from mmfocalx.errors import check_bool, check_integer, check_number, wrong

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


@DATASETS.register_module()
class ImageFolderDataset(BaseDataset):
    """Images below ``data_root/split/CLASS/``, on MMEngine's ``BaseDataset``.

    A sample has ``img_path`` and ``gt_label``, the place of its class among ``classes``.

    Args:
        data_root: Folder of the splits.
        split: Folder of this split in it.
        metainfo: ``classes``, in the order of their labels. Without it they are the folders of
            ``class_split`` in alphabetical order, whatever this split has.
        class_split: Folder of the split that names the classes.
        filter_cfg: ``max_ratio``, a number of at least 1, for under-sampling: no class keeps more
            than that many times the images of the rarest one. Which it keeps, ``seed`` says.
        allow_empty_classes: Whether a class may have no image in this split.
        **kwargs: As in ``BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it; also if a
            class has no image, or if a folder is no class.
        FileNotFoundError: if there is no folder of the split.
        OSError: on access to a sample whose image cannot be read; it names the file.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        metainfo: dict[str, Any] | None = None,
        class_split: str = 'train',
        filter_cfg: dict[str, Any] | None = None,
        allow_empty_classes: bool = False,
        **kwargs: Any,
    ) -> None:
        self.split, self.class_split = split, class_split
        self.allow_empty_classes = check_bool('allow_empty_classes', allow_empty_classes)
        super().__init__(
            data_root=data_root,
            metainfo={'classes': self._class_names(data_root, metainfo or {}), **(metainfo or {})},
            data_prefix={},
            filter_cfg=filter_cfg,
            **kwargs,
        )

    def _class_names(self, data_root: str, metainfo: dict[str, Any]) -> tuple[str, ...]:
        given = metainfo.get('classes')
        if given is None:
            return tuple(_folders(Path(data_root, self.class_split)))
        if isinstance(given, str) or len({*given}) != len(given):
            wrong("metainfo['classes']", 'a sequence of different names', given)
        return tuple(given)

    def load_data_list(self) -> list[dict[str, Any]]:
        """The images, class by class.

        Raises:
            ValueError: if a class has no image, or if a folder is no class.
        """
        folder, classes = Path(self.data_root, self.split), self.metainfo['classes']
        found = _folders(folder)
        if unknown := [name for name in found if name not in classes]:
            wrong(
                "metainfo['classes']",
                f'the folders of {folder}',
                tuple(classes),
                hint=f'No class of the training is {unknown}.',
            )
        samples = []
        for label, name in enumerate(classes):
            paths = _images(folder / name) if name in found else []
            if not paths and not self.allow_empty_classes:
                raise ValueError(
                    f'Class {name!r} has no image in {folder / name} (looked for '
                    f'{", ".join(EXTENSIONS)}). Leave it out of the classes, or set '
                    'allow_empty_classes=True.'
                )
            samples += [{'img_path': str(path), 'gt_label': label} for path in paths]
        return samples

    def filter_data(self) -> list[dict[str, Any]]:
        """The images that under-sampling keeps; all without ``filter_cfg``."""
        settings = dict(self.filter_cfg or {})
        if not settings:
            return self.data_list
        max_ratio = check_number('filter_cfg.max_ratio', settings.pop('max_ratio', None), low=1)
        seed = check_integer('filter_cfg.seed', settings.pop('seed', 0), low=0)
        if settings:
            wrong('filter_cfg', "a dict with 'max_ratio' and 'seed'", [*settings])
        counts = Counter(sample['gt_label'] for sample in self.data_list)
        room = dict.fromkeys(counts, round(max_ratio * min(counts.values(), default=0)))
        kept = set()
        for index in np.random.default_rng(seed).permutation(len(self.data_list)).tolist():
            label = self.data_list[index]['gt_label']
            if room[label]:
                room[label] -= 1
                kept.add(index)
        return [sample for index, sample in enumerate(self.data_list) if index in kept]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The label of an image, as samplers and wrappers that balance classes ask for it."""
        return [self.get_data_info(idx)['gt_label']]

    def prepare_data(self, idx: int) -> Any:
        """The sample after the pipeline."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            fault = _read_fault(path)
            if fault is None:  # the image is in order: something in the pipeline is not
                raise
            raise OSError(f'Cannot read image {path}: {fault}') from error


@DATASETS.register_module()
class ImbalancedDigits(ImageFolderDataset):
    """The embedded data, made in ``data_root`` when it is first used; class 0 is the common one.

    Args:
        data_root: Folder to make, or one that was made with these settings.
        split: See :class:`ImageFolderDataset`.
        task: See :func:`mmfocalx.datasets.imbalanced_digits.build`.
        ratio: See there.
        data_seed: See ``seed`` there.
        **kwargs: As in :class:`ImageFolderDataset`.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        *,
        task: str,
        ratio: int,
        data_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        imbalanced_digits.build(data_root, task, ratio, data_seed)
        classes = (imbalanced_digits.COMMON, *imbalanced_digits.RARE_DIGITS[task])
        super().__init__(data_root, split, metainfo={'classes': classes}, **kwargs)


@TRANSFORMS.register_module()
class PackImageAndLabel:
    """The end of a pipeline: the image as ``(C, H, W)`` tensor, all else as a data element."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a sample.

        Args:
            results: ``img``, ``(H, W)`` or ``(H, W, C)``, ``gt_label`` and ``img_path``.
        """
        image = np.atleast_3d(results['img'])
        sample = BaseDataElement(metainfo={'img_path': results['img_path']})
        sample.set_data({'gt_label': results['gt_label']})
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {'inputs': inputs, 'data_samples': sample}


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, in alphabetical order, hidden ones left out."""
    if not folder.is_dir():
        raise FileNotFoundError(f'No folder {folder} (a split below data_root)')
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith('.'))


def _images(folder: Path) -> list[Path]:
    """All images of a folder and those within it; what is none is named in the log."""
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    images = [path for path in files if path.suffix.lower() in EXTENSIONS]
    others = [path.name for path in files if path.suffix.lower() not in EXTENSIONS]
    if others:
        print_log(
            f'{folder}: {len(others)} files are no images by their names, such as {others[0]}',
            logger='current',
            level=logging.WARNING,
        )
    return images


def _read_fault(path: str) -> str | None:
    try:
        content = np.frombuffer(fileio.get(path), np.uint8)
    except OSError as error:
        return f'{type(error).__name__} {error}'
    if not len(content):
        return 'the file is empty'
    if cv2.imdecode(content, cv2.IMREAD_COLOR) is None:
        return 'no image format that can be decoded'
    return None
