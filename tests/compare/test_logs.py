"""What a comparison reads of a training's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmfocalx.compare.logs import last_checkpoint


def folder(root: Path, *names: str) -> Path:
    """A working folder with checkpoints, each newer than the one before."""
    for age, name in enumerate(names):
        (root / name).write_text('weights')
        os.utime(root / name, ns=(age, age))
    return root


@pytest.mark.parametrize('record', [None, '', '/run/epo', '/run/epoch_12.pth', '/run\n'])
@pytest.mark.parametrize(
    ('names', 'last'),
    [
        (('epoch_9.pth', 'epoch_10.pth', 'best_coco_bbox_mAP_epoch_9.pth'), 'epoch_10.pth'),
        (('iter_100.pth', 'iter_90.pth', 'iter_90-fe67127b.pth'), 'iter_90.pth'),
    ],
)
def test_newest_checkpoint_where_none_is_named(
    tmp_path: Path, record: str | None, names: tuple[str, ...], last: str
) -> None:
    work_dir = folder(tmp_path, *names)
    if record is not None:
        (work_dir / 'last_checkpoint').write_text(record)
    assert last_checkpoint(work_dir) == work_dir / last


def test_named_checkpoint_of_a_moved_folder(tmp_path: Path) -> None:
    work_dir = folder(tmp_path, 'final.pth', 'epoch_2.pth')
    (work_dir / 'last_checkpoint').write_text('/elsewhere/final.pth')
    assert last_checkpoint(work_dir) == work_dir / 'final.pth'


def test_no_checkpoint(tmp_path: Path) -> None:
    work_dir = folder(tmp_path, 'best_coco_bbox_mAP_epoch_9.pth', 'epoch_2-fe67127b.pth')
    with pytest.raises(FileNotFoundError, match='left no checkpoint'):
        last_checkpoint(work_dir)
