"""An annotation file as it is read: which records it has, with the ids that tell them apart."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.fileio import get_local_path

from mmfocalx.annotations.wording import PLURALS, examples, refuse, title
from mmfocalx.errors import wrong

Record = dict[str, Any]
_GZIP = b'\x1f\x8b'


@dataclass(frozen=True)
class AnnotationFile:
    """A COCO file whose images and categories have an id each, and the categories a name.

    Attributes:
        path: The file, as it was named.
        content: All that it holds.
        annotations: Its annotations; none where it has no list of them, as test splits.
    """

    path: str
    content: dict[str, Any]
    annotations: list[Record]

    @property
    def images(self) -> list[Record]:
        """Its images."""
        return self.content['images']

    @property
    def categories(self) -> list[Record]:
        """Its categories."""
        return self.content['categories']

    @property
    def has_annotations(self) -> bool:
        """Whether it has a list of annotations, be it an empty one."""
        return 'annotations' in self.content

    @cached_property
    def image_of(self) -> dict[Any, Record]:
        """Images by id."""
        return {image['id']: image for image in self.images}

    @cached_property
    def category_names(self) -> dict[Any, str]:
        """Names of the categories by id, in the order of the file."""
        return {category['id']: category['name'] for category in self.categories}


def read_annotations(
    path: str, backend_args: dict[str, Any] | None = None, local: str | None = None
) -> AnnotationFile:
    """Read a COCO annotation file.

    Args:
        path: A file, or an address that a storage backend of MMEngine knows.
        backend_args: Arguments of that backend, as in mmdet's configs.
        local: Where the backend has put the file on this machine, if it has already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no COCO JSON, lists no image or no category, or an image or category
            has no id or no name of its own. The message names the record.
    """
    path = str(path)
    if local is None:
        with get_local_path(path, backend_args=backend_args) as local:
            content = _json(path, Path(local))
    else:
        content = _json(path, Path(local))
    if not isinstance(content, dict):
        what = 'a list, as files of detections do' if isinstance(content, list) else 'one value'
        not_coco(path, f'It holds {what}, no object with the keys `images` and `categories`.')
    for key in ('images', 'categories'):
        if key not in content:
            advice = (
                'Write [{"id": 1, "name": "..."}, ...], as in the training file.'
                if key == 'categories'
                else f'It has the keys {examples(content)}.'
            )
            not_coco(path, f'It has no `{key}`. {advice}')
    for kind, key in PLURALS.items():
        _check_list(path, kind, content.get(key, []))
    file = AnnotationFile(path, content, content.get('annotations', []))
    for kind in ('image', 'category'):
        records = content[PLURALS[kind]]
        if not records:
            refuse(path, f'with {PLURALS[kind]}', f'Its list of {PLURALS[kind]} is empty.')
        check_ids(path, kind, records)
    _check_names(file)
    return file


def _json(path: str, local: Path) -> Any:
    if local.is_dir():
        not_coco(path, 'It is a folder: give the path of the JSON file in it.')
    raw = local.read_bytes()
    if raw.startswith(_GZIP):
        not_coco(path, 'It is compressed with gzip: decompress it first (gunzip).')
    if not raw.strip():
        not_coco(path, 'It is empty.')
    try:
        return json.loads(raw)  # knows UTF-8 and UTF-16, with and without a byte order mark
    except UnicodeDecodeError as error:
        not_coco(path, f'It is no text in UTF-8: {error}. Save it in that encoding.')
    except (ValueError, RecursionError) as error:
        not_coco(path, f'{type(error).__name__}: {error}')


def not_coco(path: str, found: str) -> Any:
    """Raise a ValueError on a file that is of another format."""
    wrong('ann_file', 'a file of COCO JSON', path, hint=found)


def _check_list(path: str, kind: str, records: Any) -> None:
    if not isinstance(records, list):
        not_coco(path, f'Its `{PLURALS[kind]}` is no list, but of type {type(records).__name__}.')
    if all(type(record) is dict for record in records):
        return
    position = next(k for k, record in enumerate(records) if not isinstance(record, dict))
    not_coco(
        path,
        f'Number {position + 1} in the list of {PLURALS[kind]} is no object, but '
        f'{records[position]!r:.80}.',
    )


def check_ids(path: str, kind: str, records: list[Record]) -> None:
    """Check that records have an id each, a number or a text, and no two the same.

    Raises:
        ValueError: If not; the message names the file, the record and what to write.
    """
    whose = f'whose {PLURALS[kind]} each have an `id` of their own'
    try:
        ids = [record['id'] for record in records]
    except KeyError:
        position = next(k for k, record in enumerate(records) if 'id' not in record)
        name = title(kind, records[position], position)
        refuse(path, whose, f'{name[0].upper()}{name[1:]} has none. {_ID_ADVICE[kind]}')
    if not set(map(type, ids)) <= {int, str, float}:
        position = next(k for k, i in enumerate(ids) if type(i) not in (int, str, float))
        refuse(path, whose, f'Number {position + 1} in the list has {ids[position]!r}.')
    if len(set(ids)) < len(ids):
        twice = [i for i, number in Counter(ids).items() if number > 1]
        refuse(path, whose, f'More than one {kind} has {examples(twice)}. {_ID_ADVICE[kind]}')


_ID_ADVICE = {
    'image': 'Number the images, and write the new number as `image_id` of their annotations.',
    'category': 'Number the categories, and write the number as `category_id` of the annotations.',
    'annotation': 'Number the annotations 1, 2, 3, ... through the whole file.',
}


def _check_names(file: AnnotationFile) -> None:
    whose = 'whose categories each have a `name` of their own'
    for position, category in enumerate(file.categories):
        if not isinstance(category.get('name'), str):
            found = repr(category['name']) if 'name' in category else 'none'
            name = title('category', category, position)
            refuse(file.path, whose, f'The {name} has {found}. Write its name, as a text.')
    ids: dict[str, list[Any]] = {}
    for number, name in file.category_names.items():
        ids.setdefault(name, []).append(number)
    twice = {name: same for name, same in ids.items() if len(same) > 1}
    if twice:
        found = '; '.join(f'{name!r} has the ids {examples(same)}' for name, same in twice.items())
        refuse(
            file.path,
            whose,
            f'More than one has the same: {found}. Keep one of them, and write its id as '
            '`category_id` of the annotations of the other, or give the other another name.',
        )
