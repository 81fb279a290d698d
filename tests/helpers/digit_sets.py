"""What the tests of the digit scenes read of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

SPLITS = ('train', 'val', 'test')
SMALL = {'train': 12, 'val': 8, 'test': 8}


def coco(root: Path, split: str) -> dict:
    return json.loads((root / 'annotations' / f'{split}.json').read_text())


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
