"""Comparisons with stub trainings, through the command line's own function."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from mmfocalx.compare.cli import main


class Compared(NamedTuple):
    """What a comparison left: its exit code, its page as text, and its numbers."""

    code: int
    page: str
    results: dict[str, Any]

    def failed(self) -> dict[tuple[str, int], str]:
        """The reason of each run that was left out."""
        return {(run['name'], run['seed']): run['reason'] for run in self.results['failed']}

    def seeds(self) -> dict[str, list[int]]:
        """The seeds that the numbers of each config rest on."""
        return {row['name']: row['seeds'] for row in self.results['summary']}

    def difference(self, name: str, kind: str = 'mAP') -> dict[str, Any]:
        """A config's difference from the baseline."""
        (group,) = self.results['comparisons']
        return group['differences'][name][kind]


def compare(tools: Path, out: Path, *arguments: object, split: str = 'val') -> Compared:
    """Run `tools/compare.py` in this process."""
    words = [str(word) for word in arguments]
    code = main(tools, [*words, '--out', str(out), '--split', split])
    return read(out, code, split)


def read(out: Path, code: int = 0, split: str = 'val') -> Compared:
    """The reports in a folder."""
    suffix = '' if split == 'val' else f'-{split}'
    page = (out / f'report{suffix}.html').read_text(encoding='utf-8')
    text = html.unescape(
        re.sub(r'\s+', ' ', re.sub(r'<style.*?</style>|<[^>]*>', '', page, flags=re.DOTALL))
    )
    return Compared(code, text, json.loads((out / f'results{suffix}.json').read_text()))
