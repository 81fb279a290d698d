"""What a training or a test left in its directory, read back."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

from mmengine.runner import find_latest_checkpoint

from mmfocalx.compare.child_process import Child
from mmfocalx.compare.resolved_config import PREDICTIONS

HEADLINE = {'mAP': 'coco/bbox_mAP', 'AP50': 'coco/bbox_mAP_50', 'AP75': 'coco/bbox_mAP_75'}
_PACKAGES = (
    'torch', 'mmengine', 'onedl-mmengine', 'mmcv', 'onedl-mmcv', 'mmdet', 'onedl-mmdetection',
    'mmfocalx',
)  # fmt: skip
_ERROR_LINE = re.compile(r'^([A-Za-z_]\w*\.)*[A-Za-z_]\w*(Error|Exception|Exit|Interrupt)\b')
_TRAIN_LINE = re.compile(r'Epoch\(train\)\s*\[(\d+)\]\[\s*\d+/(\d+)\]')


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that training named as its last, also after the directory was moved."""
    named = find_latest_checkpoint(str(work_dir))
    if named is None:
        raise FileNotFoundError(f'training left no checkpoint in {work_dir}')
    return work_dir / Path(named).name


def test_metrics(test_dir: Path) -> dict[str, float]:
    """What the evaluators of ``tools/test.py`` reported, without the timings."""
    found = sorted(test_dir.glob('*/*.json'))
    if not found:
        raise FileNotFoundError(f'the test left no metrics in {test_dir}')
    metrics = json.loads(found[-1].read_text())
    if not json.loads((test_dir / f'{PREDICTIONS}.bbox.json').read_text()):
        metrics.update(dict.fromkeys(HEADLINE.values(), 0.0))  # CocoMetric leaves them out
    return {key: value for key, value in metrics.items() if key not in ('time', 'data_time')}


def epochs_done(work_dir: Path) -> int:
    """Whole epochs (iterations, without epochs) that the checkpoints of a run hold."""
    numbers = [int(path.stem.split('_')[-1]) for path in work_dir.glob('*_[0-9]*.pth')]
    return max(numbers, default=0)


def iterations(log: Path) -> int | None:
    """Training iterations, from the epochs and their length in a log; None without epochs."""
    found = _TRAIN_LINE.findall(log.read_text(errors='replace'))
    return max((int(epoch) * int(length) for epoch, length in found), default=None)


def failure_reason(child: Child) -> str:
    """The last error line in the log of a child that failed, or how it ended."""
    code = child.poll() or 0
    if code < 0:
        return f'killed by signal {-code}'
    lines = [
        line.strip() for line in child.log.read_text(errors='replace').splitlines() if line.strip()
    ]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or [f'exit code {code}'])[-1][:500]


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {'python': sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
