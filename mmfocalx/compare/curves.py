"""Training curves, from the scalars that MMEngine wrote."""

from __future__ import annotations

import json
from pathlib import Path

from mmfocalx.compare.logs import HEADLINE


def training_curves(work_dir: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Loss by epoch (its mean), and mAP in percent by epoch; of iterations where there are none.

    A resumed training has written several files; what was done twice counts as done last.
    """
    losses: dict[int, list[float]] = {}
    maps: dict[int, float] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        in_this_file: dict[int, list[float]] = {}
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a training that was killed
                continue
            if HEADLINE['mAP'] in row:
                maps[int(row['step'])] = 100 * row[HEADLINE['mAP']]
            elif 'loss' in row:
                in_this_file.setdefault(int(row.get('epoch', row['step'])), []).append(row['loss'])
        losses.update(in_this_file)
    return {epoch: sum(v) / len(v) for epoch, v in sorted(losses.items())}, dict(
        sorted(maps.items())
    )
