"""COCO annotation files as they come from labelling tools; needs MMEngine beside torch.

One reader for data sets, metrics and comparisons. What it cannot read right is a ValueError that
names the file, the record, the key and what to write.
"""

from mmfocalx.annotations.reading import AnnotationFile, Record, check_ids, read_annotations
from mmfocalx.annotations.records import (
    check_annotations,
    check_for_coco_metric,
    check_images,
    is_box,
)
from mmfocalx.annotations.usable import check_some_count, check_usable, warn
from mmfocalx.annotations.wording import examples

__all__ = [
    'AnnotationFile',
    'Record',
    'check_annotations',
    'check_for_coco_metric',
    'check_ids',
    'check_images',
    'check_some_count',
    'check_usable',
    'examples',
    'is_box',
    'read_annotations',
    'warn',
]
