"""What a training or a test left in its directory, read back."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from mmengine.runner import find_latest_checkpoint

from mmfocalx.compare.child_process import Child
from mmfocalx.compare.resolved_config import PREDICTIONS
from mmfocalx.files import read_json

HEADLINE = {'mAP': 'coco/bbox_mAP', 'AP50': 'coco/bbox_mAP_50', 'AP75': 'coco/bbox_mAP_75'}
_PACKAGES = (
    'torch', 'mmengine', 'onedl-mmengine', 'mmcv', 'onedl-mmcv', 'mmdet', 'onedl-mmdetection',
    'mmfocalx',
)  # fmt: skip
_ERROR_LINE = re.compile(r'^([A-Za-z_]\w*\.)*[A-Za-z_]\w*(Error|Exception|Exit|Interrupt)\b')
_NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth').fullmatch
_TRAIN_LINE = re.compile(r'Epoch\(train\)\s*\[(\d+)\]\[\s*\d+/(\d+)\]')


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that training named as its last, also after the directory was moved.

    A training that is killed while it names it leaves no name, or a part of one; then the newest
    checkpoint of an epoch or iteration is the last.

    Raises:
        FileNotFoundError: If there is none.
    """
    named = work_dir / Path(find_latest_checkpoint(str(work_dir)) or '').name
    if named.is_file():
        return named
    numbered = [path for path in work_dir.glob('*.pth') if _NUMBERED(path.name)]
    if not numbered:
        raise FileNotFoundError(f'training left no checkpoint in {work_dir}')
    return max(numbered, key=lambda path: path.stat().st_mtime_ns)


def test_metrics(test_dir: Path) -> dict[str, float]:
    """What the evaluators of ``tools/test.py`` reported, without the timings."""
    found = sorted(test_dir.glob('*/*.json'))
    if not found:
        raise FileNotFoundError(f'the test left no metrics in {test_dir}')
    metrics = read_json(found[-1])
    if not read_json(test_dir / f'{PREDICTIONS}.bbox.json'):
        metrics.update(dict.fromkeys(HEADLINE.values(), 0.0))  # CocoMetric leaves them out
    return {key: value for key, value in metrics.items() if key not in ('time', 'data_time')}


def was_started(work_dir: Path) -> bool:
    """Whether a training left a checkpoint to resume from."""
    numbered = any(_NUMBERED(path.name) for path in work_dir.glob('*.pth'))
    return numbered or (work_dir / 'last_checkpoint').is_file()


def trained_length(work_dir: Path) -> int:
    """Whole epochs (iterations, without epochs) that the checkpoints of a run hold."""
    numbers = [int(found[1]) for path in work_dir.glob('*.pth') if (found := _NUMBERED(path.name))]
    return max(numbers, default=0)


def iterations(log: Path) -> int | None:
    """Training iterations, from the epochs and their length in a log; None without epochs."""
    found = _TRAIN_LINE.findall(log.read_text(encoding='utf-8', errors='replace'))
    return max((int(epoch) * int(length) for epoch, length in found), default=None)


def failure_reason(child: Child) -> str:
    """The last error line in the log of a child that failed, or how it ended."""
    code = child.poll() or 0
    if code < 0:
        return f'killed by signal {-code}'
    text = child.log.read_text(encoding='utf-8', errors='replace')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or [f'exit code {code}'])[-1][:500]


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {'python': sys.version.split()[0]}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class Curves(NamedTuple):
    """What a training logged, by epoch, or by iteration where it has no epochs.

    Attributes:
        losses: The mean loss.
        maps: MAP in percent.
    """

    losses: dict[int, float]
    maps: dict[int, float]


def training_curves(work_dir: Path) -> Curves:
    """The curves of a training.

    A resumed training has written several files; what was done twice counts as done last.
    """
    losses: dict[int, list[float]] = {}
    maps: dict[int, float] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        in_this_file: dict[int, list[float]] = {}
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a training that was killed
                continue
            ap = next((value for key, value in row.items() if key.endswith('bbox_mAP')), None)
            if ap is not None:
                maps[int(row['step'])] = 100 * ap
            elif 'loss' in row:
                in_this_file.setdefault(int(row.get('epoch', row['step'])), []).append(row['loss'])
        losses.update(in_this_file)
    means = {epoch: sum(values) / len(values) for epoch, values in sorted(losses.items())}
    return Curves(means, dict(sorted(maps.items())))


def divergence(work_dir: Path) -> str:
    """In words, from when on the loss was no finite number; '' if it is one at the end."""
    since = None
    for epoch, loss in training_curves(work_dir).losses.items():
        if math.isfinite(loss):
            since = None
        elif since is None:
            since = epoch
    return '' if since is None else f'the loss is NaN or infinite from epoch {since} on'
