"""COCO-format data whose faults are errors that name the file or the classes at fault."""

from __future__ import annotations

from typing import Any

from mmcv import imfrombytes
from mmdet.datasets import CocoDataset
from mmengine import fileio
from mmengine.registry import DATASETS

from mmfocalx.errors import check_bool, wrong


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset``, which refuses what mmdet passes over or reports without a name.

    mmdet drops the categories that ``metainfo['classes']`` does not list and the classes that the
    annotations do not have, and numbers labels in the order of the annotations, whatever the order
    of the classes. Here the two must agree: same names, same order. Without ``classes`` in
    ``metainfo`` they are COCO's 80, as in mmdet.

    Args:
        *args: As in mmdet's ``CocoDataset``.
        ignore_other_categories: Whether the annotations may have categories beside the classes;
            their boxes are then dropped, and the classes keep the order of the annotations.
        **kwargs: As in mmdet's ``CocoDataset``.

    Raises:
        FileNotFoundError: if there is no annotation file.
        TypeError: if ``ignore_other_categories`` is no bool.
        ValueError: if it is no COCO JSON, or its categories do not match the classes.
        OSError: on access to a sample whose image cannot be read.
    """

    def __init__(self, *args: Any, ignore_other_categories: bool = False, **kwargs: Any) -> None:
        self.ignore_other_categories = check_bool(
            'ignore_other_categories', ignore_other_categories
        )
        super().__init__(*args, **kwargs)

    def _read_annotations(self, path: str) -> Any:
        try:
            coco = CocoDataset.COCOAPI(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'No annotation file {self.ann_file} (ann_file, below data_root={self.data_root!r})'
            ) from error
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            fault = f'{type(error).__name__}: {error}'
            wrong('ann_file', 'a file of COCO JSON', self.ann_file, hint=fault)
        self._check_classes([category['name'] for category in coco.cats.values()])
        return coco

    COCOAPI = _read_annotations

    def _check_classes(self, categories: list[str]) -> None:
        classes = self.metainfo['classes']
        if isinstance(classes, str):
            wrong("metainfo['classes']", 'a sequence of names or a file with one a line', classes)
        classes = list(classes)
        others = [name for name in categories if name not in classes]
        missing = [name for name in classes if name not in categories]
        kept = [name for name in categories if name in classes]
        if kept == classes and (self.ignore_other_categories or not others):
            return
        difference = [
            f'not in the annotations: {missing}' if missing else '',
            f'not among the classes: {others}' if others else '',
            '' if missing or others else 'the order or the number of the names differs',
        ]
        wrong(
            "metainfo['classes']",
            f'the categories of {self.ann_file} in their order, {tuple(categories)}',
            tuple(classes),
            hint=f'The difference: {"; ".join(filter(None, difference))}. To train on some of the '
            'categories only, set ignore_other_categories=True.',
        )

    def prepare_data(self, idx: int) -> Any:
        """The sample after the pipeline, as in mmdet."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            fault = self._read_fault(path)
            if fault is None:  # the image is in order: something in the pipeline is not
                raise
            raise OSError(
                f'Cannot read image {path}, which {self.ann_file} lists: {fault}'
            ) from error

    def _read_fault(self, path: str) -> str | None:
        try:
            image = imfrombytes(fileio.get(path, backend_args=self.backend_args))
        except Exception as error:
            return f'{type(error).__name__} {error}'
        return 'no image format that can be decoded' if image is None else None
