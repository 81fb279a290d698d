"""Image files that an annotation file lists: whether they are there, and as large as it says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmcv import imfrombytes
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from PIL import Image

from mmfocalx.annotations import examples

_ORIENTATION = 0x0112


def check_images_are_there(paths: Sequence[str], ann_file: str, advice: str) -> None:
    """Check that image files exist, by one look into each folder.

    Args:
        paths: Local paths.
        ann_file: What lists them.
        advice: A sentence that the error ends with.

    Raises:
        FileNotFoundError: If some do not; the message names the first few.
    """
    folders: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = (
                {*os.listdir(folder or '.')} if os.path.isdir(folder or '.') else set()
            )
        if name not in folders[folder] and not os.path.exists(path):
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of the {len(paths)} images that {ann_file} lists are not there: '
            f'{examples(missing)}. {advice}'
        )


def loads_local_files(transforms: Iterable[Any], path: str) -> bool:
    """Whether a pipeline reads its images as files of this machine."""
    loaders = [one for one in transforms if isinstance(one, LoadImageFromFile)]
    return bool(loaders) and all(
        isinstance(
            fileio.get_file_backend(path, backend_args=loader.backend_args), fileio.LocalBackend
        )
        for loader in loaders
    )


def read_fault(path: str, backend_args: dict[str, Any] | None) -> str | None:
    """Why an image cannot be read, or None."""
    try:
        image = imfrombytes(fileio.get(path, backend_args=backend_args))
    except Exception as error:
        return f'{type(error).__name__} {error}'
    return 'no image format that can be decoded' if image is None else None


class SizeCheck:
    """A step of a pipeline that stops where an image is not as large as its record says.

    Args:
        ann_file: What says it.
    """

    def __init__(self, ann_file: str) -> None:
        self.ann_file = ann_file

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Give back the results of the step that read the image.

        Raises:
            ValueError: If the sizes differ.
        """
        height, width = results['ori_shape'][:2]
        if (height, width) != (results['height'], results['width']):
            path = results['img_path']
            raise ValueError(
                f'{self.ann_file} says that image {results["img_id"]!r} is {results["width"]} x '
                f'{results["height"]} (width x height), but {path} is {width} x {height} when it '
                f'is read. {_advice(path)}'
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.ann_file!r})'


def _advice(path: str) -> str:
    orientation = _exif_orientation(path)
    if orientation not in (0, 1):
        return (
            f'Its EXIF tag says that it is to be turned (orientation {orientation}), which the '
            'file of annotations does not take into account: if the boxes fit the picture as '
            'stored, read it so with LoadImageFromFile(color_type="color_ignore_orientation"), '
            'else correct `width` and `height`.'
        )
    return (
        'If the boxes fit the picture, correct `width` and `height`; if it was scaled since it was '
        'annotated, scale the boxes, or take the picture of then.'
    )


def _exif_orientation(path: str) -> int:
    try:
        with Image.open(Path(path)) as image:
            return int(image.getexif().get(_ORIENTATION, 0))
    except Exception:  # no local file, or none that Pillow knows: only a hint depends on it
        return 0
