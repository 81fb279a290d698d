"""Ground truth as hotcoco takes it: ids are indices, and only what a box metric needs is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO
from numpy.typing import NDArray

from mmfocalx.annotations import AnnotationFile


@dataclass(frozen=True)
class GroundTruth:
    """An annotation file to evaluate, whose ids may be any numbers or texts.

    Attributes:
        path: The file.
        coco: Its objects. The id of an image is its index in the order of the file's ids, the id
            of a category its index in the file, that of an annotation its index + 1.
        image_index: Index by the file's id of an image.
        category_index: Index by the file's id of a category.
        class_names: Names of the categories, by index.
    """

    path: str
    coco: COCO
    image_index: dict[Any, int]
    category_index: dict[Any, int]
    class_names: list[str]

    def image(self, image_id: Any) -> int:
        """Index of an image that has detections.

        Raises:
            ValueError: If the file does not list it.
        """
        try:
            return self.image_index[image_id]
        except (KeyError, TypeError):
            raise ValueError(
                f'There are detections on the image with the id {image_id!r}, which {self.path} '
                f'does not list (it lists {len(self.image_index)}, such as '
                f'{next(iter(self.image_index))!r}). Give the annotation file of the images that '
                'were predicted: the same for the data set and the metric.'
            ) from None

    def rows(self, detections: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
        """(N, 7) rows of image index, x, y, width, height, score, category index.

        Args:
            detections: Entries of a file of detections, as CocoMetric writes it.

        Raises:
            ValueError: If one is on an image, or of a category, that the file does not list.
        """
        rows = [
            (self.image(d['image_id']), *d['bbox'], d['score'], self._category(d['category_id']))
            for d in detections
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 7)

    def _category(self, category_id: Any) -> int:
        if category_id not in self.category_index:
            raise ValueError(
                f'A detection has the category {category_id!r}, which {self.path} does not list '
                f'(it lists {list(self.category_index)}).'
            )
        return self.category_index[category_id]


def in_order(ids: Iterable[Any]) -> list[Any]:
    """Ids sorted, numbers before texts."""
    return sorted(ids, key=lambda i: (isinstance(i, str), i))


def indexed(
    file: AnnotationFile, annotations: Sequence[Mapping[str, Any]] | None = None
) -> GroundTruth:
    """Ground truth with indices for ids.

    Args:
        file: The file.
        annotations: Those to evaluate, each with a box; all of the file by default. Those that
            match no image or no category are left out, as CocoMetric does.
    """
    ids = in_order(file.image_of)
    image_index = {image_id: index for index, image_id in enumerate(ids)}
    category_index = {i: index for index, i in enumerate(file.category_names)}
    judged = [
        annotation
        for annotation in (file.annotations if annotations is None else annotations)
        if annotation['image_id'] in image_index and annotation['category_id'] in category_index
    ]
    names = list(file.category_names.values())
    coco = COCO(
        {
            'images': [_image(file.image_of[i], index) for i, index in image_index.items()],
            'annotations': [
                {
                    'id': number,
                    'image_id': image_index[annotation['image_id']],
                    'category_id': category_index[annotation['category_id']],
                    'bbox': annotation['bbox'],
                    'area': annotation.get('area', annotation['bbox'][2] * annotation['bbox'][3]),
                    'iscrowd': int(annotation.get('iscrowd', 0)),
                }
                for number, annotation in enumerate(judged, 1)
            ],
            'categories': [{'id': index, 'name': name} for index, name in enumerate(names)],
        }
    )
    return GroundTruth(file.path, coco, image_index, category_index, names)


def _image(image: Mapping[str, Any], index: int) -> dict[str, Any]:
    sizes = {
        key: round(image[key])
        for key in ('width', 'height')
        if isinstance(image.get(key), (int, float)) and 0 < image[key] < 2**31
    }
    return {'id': index, 'file_name': str(image.get('file_name', '')), **sizes}
