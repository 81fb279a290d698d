"""How a fault in an annotation file is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from mmfocalx.errors import wrong

MOST_EXAMPLES = 5
PLURALS = {'image': 'images', 'category': 'categories', 'annotation': 'annotations'}


def refuse(path: str, expected: str, found: str) -> NoReturn:
    """Raise a ValueError on a file.

    Args:
        path: The file.
        expected: What goes on after 'a COCO file', such as 'whose images each have an `id`'.
        found: Sentences on what was found, and what to do.
    """
    wrong('ann_file', f'a COCO file {expected}', path, hint=found)


def title(kind: str, record: Mapping[str, Any], position: int) -> str:
    """The name of a record: its id, else its place in the list."""
    if 'id' in record:
        return f'{kind} {record["id"]!r}'
    known = [key for key in ('file_name', 'name', 'image_id') if key in record]
    more = f', with `{known[0]}` {record[known[0]]!r}' if known else ''
    return f'number {position + 1} in the list of {PLURALS[kind]}{more},'


def examples(values: Iterable[Any]) -> str:
    """The first few values, and how many more there are."""
    values = [*values]
    more = len(values) - MOST_EXAMPLES
    shown = [*map(repr, values if more <= 1 else values[:MOST_EXAMPLES])]
    if more > 1:
        shown.append(f'{more} more')
    return ' and '.join(filter(None, (', '.join(shown[:-1]), shown[-1])))
