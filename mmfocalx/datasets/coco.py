"""COCO-format data whose faults are errors that name the file or the classes at fault."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmengine.registry import DATASETS

from mmfocalx.annotations import (
    AnnotationFile,
    check_annotations,
    check_for_coco_metric,
    check_images,
    check_some_count,
    check_usable,
    read_annotations,
    warn,
)
from mmfocalx.datasets.image_files import (
    SizeCheck,
    check_images_are_there,
    loads_local_files,
    read_fault,
)
from mmfocalx.errors import check_bool, wrong


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset``, which refuses what mmdet passes over or reports without a name.

    mmdet drops the categories that ``metainfo['classes']`` does not list and the classes that the
    annotations do not have, and numbers labels in the order of the annotations, whatever the order
    of the classes. Here the two must agree: same names, same order. Without ``classes`` in
    ``metainfo`` they are COCO's 80, as in mmdet.

    mmdet also drops annotations without a word: those that match no image or no category, lie
    outside of their image, are less than a pixel wide or high, or have an ``area`` of 0. Here a
    warning counts them by reason, and where none is left that is an error. The images have to be
    there when the data set is built, and as large as the annotation file says when they are read.

    Args:
        *args: As in mmdet's ``CocoDataset``.
        ignore_other_categories: Whether the annotations may have categories beside the classes;
            their boxes are then dropped, and the classes keep the order of the annotations.
        **kwargs: As in mmdet's ``CocoDataset``.

    Raises:
        FileNotFoundError: if there is no annotation file, or an image that it lists is missing.
        TypeError: if ``ignore_other_categories`` is no bool.
        ValueError: if it is no COCO JSON, one of its records cannot be used, its annotations are
            all dropped, its categories do not match the classes, or no image is left; and on
            access to a sample whose image has another size than the file says.
        OSError: on access to a sample whose image cannot be read.
    """

    data_list: list[dict[str, Any]]

    def __init__(self, *args: Any, ignore_other_categories: bool = False, **kwargs: Any) -> None:
        self.ignore_other_categories = check_bool(
            'ignore_other_categories', ignore_other_categories
        )
        super().__init__(*args, **kwargs)
        steps = self.pipeline.transforms
        for step in [step for step in steps if isinstance(step, LoadImageFromFile)]:
            steps.insert(steps.index(step) + 1, SizeCheck(self.ann_file))

    def _read_annotations(self, path: str) -> Any:
        try:
            file = read_annotations(self.ann_file, local=path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'No annotation file {self.ann_file} (ann_file, below data_root={self.data_root!r})'
            ) from error
        self._check_classes([*file.category_names.values()])
        check_images(file)
        if self.test_mode:
            check_for_coco_metric(file)
            check_some_count(file, self.metainfo['classes'])
        else:
            self._check_training(file)
        coco = CocoDataset.COCOAPI()
        coco.dataset = file.content
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    COCOAPI = _read_annotations

    def _check_training(self, file: AnnotationFile) -> None:
        if not file.has_annotations:
            wrong(
                'ann_file', 'a COCO file with `annotations`', file.path,
                hint='It has no list of them, as files of test images: there is nothing to learn.',
            )  # fmt: skip
        check_annotations(file)
        check_usable(file, self.metainfo['classes'])
        if not file.annotations:
            warn(f'{file.path} has no annotation: all its images are taken for background.')

    def _check_classes(self, categories: list[str]) -> None:
        classes = self.metainfo['classes']
        if isinstance(classes, str):
            wrong(
                "metainfo['classes']", 'a sequence of names or a file with one a line', classes,
                hint=f"For one class write metainfo=dict(classes=('{classes}',)), with the comma.",
            )  # fmt: skip
        classes = list(classes)
        others = [name for name in categories if name not in classes]
        missing = [name for name in classes if name not in categories]
        twice = [name for name, number in Counter(classes).items() if number > 1]
        kept = [name for name in categories if name in classes]
        if kept == classes and (self.ignore_other_categories or not others):
            return
        difference = [
            f'not in the annotations: {missing}' if missing else '',
            f'not among the classes: {others}' if others else '',
            f'given twice: {twice}' if twice else '',
            '' if missing or others or twice else 'the order of the names',
        ]
        wrong(
            "metainfo['classes']",
            f'the categories of {self.ann_file} in their order, {tuple(categories)}',
            tuple(classes),
            hint=f'The difference: {"; ".join(filter(None, difference))}. '
            + _what_to_write(categories, kept, missing, others),
        )

    def filter_data(self) -> list[dict[str, Any]]:
        """The images to use, as in mmdet, which are some and are there."""
        listed = self.data_list
        self.data_list = used = super().filter_data()
        if self._indices is not None:
            used = self._get_unserialized_subset(self._indices)
        if not used:
            wrong(
                'ann_file', 'a COCO file with images to use', self.ann_file,
                hint=f'Of its {len(listed)} images none is left by filter_cfg={self.filter_cfg} '
                f'and indices={self._indices}.',
            )  # fmt: skip
        paths = [one['img_path'] for one in used]
        if loads_local_files(self.pipeline.transforms, paths[0]):
            advice = f'They are looked for below data_prefix={self.data_prefix}.'
            if any('\\' in path for path in paths):
                advice += ' Write `file_name` with / in place of \\.'
            check_images_are_there(paths, self.ann_file, advice)
        return self.data_list

    def prepare_data(self, idx: int) -> Any:
        """The sample after the pipeline, as in mmdet."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            path = self.get_data_info(idx)['img_path']
            fault = read_fault(path, self.backend_args)
            if fault is None:  # the image is in order: something in the pipeline is not
                raise
            raise OSError(
                f'Cannot read image {path}, which {self.ann_file} lists: {fault}'
            ) from error


def _what_to_write(
    categories: list[str], kept: list[str], missing: list[str], others: list[str]
) -> str:
    """The line of a config that the categories ask for."""
    if missing and kept:
        return (
            f'If {missing} have no object in this file, add them to its `categories`, so that the '
            f'names and their order are those of the classes; to do without them, write '
            f'{_classes(kept)}{_ON_REQUEST if others else ""} in all data sets and '
            f'num_classes={len(kept)} in the head.'
        )
    advice = f'Write {_classes(categories)} in all data sets and num_classes={len(categories)} in '
    advice += 'the head.'
    if kept and others:
        advice += f' To train on {kept} only, write {_classes(kept)}{_ON_REQUEST}.'
    return advice


_ON_REQUEST = ' and ignore_other_categories=True'


def _classes(names: list[str]) -> str:
    return f'metainfo=dict(classes={tuple(names)!r})'
