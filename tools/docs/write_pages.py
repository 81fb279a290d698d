"""Write the generated pages about the losses: their gallery, README's table, and docs/heads.md."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def texts() -> dict[Path, str]:
    """Every page by its path."""
    from head_page import head_page
    from loss_page import loss_page
    from loss_table import README, with_table

    return {
        ROOT / 'docs' / 'losses.md': loss_page('losses'),
        ROOT / 'docs' / 'heads.md': head_page(),
        README: with_table(README.read_text()),
    }


if __name__ == '__main__':
    sys.path[:1] = [str(ROOT), str(ROOT / 'tools' / 'docs'), str(ROOT / 'tests')]
    from loss_gallery import draw_gallery

    draw_gallery(ROOT / 'docs' / 'losses')
    for path, text in texts().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
