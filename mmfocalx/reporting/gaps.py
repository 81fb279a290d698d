"""Parts of a report that fail alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple


class Gap(NamedTuple):
    """A part of the report that is missing."""

    part: str
    reason: str


class Gaps(list[Gap]):
    """The parts that are missing: what fails in one part is no loss of the others."""

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A part of the report; if it fails, it is on the list, and what follows goes on."""
        try:
            yield
        except Exception as error:  # whatever is wrong there
            self.append(Gap(title, f'{type(error).__name__}: {error}'))
