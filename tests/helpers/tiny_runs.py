"""Runs of the command-line tools on the tiny detector, in processes of their own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.forkserver import FORKSERVER
from helpers.tiny_detection import write_config, write_dataset

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
_base_ = './detector.py'
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
work_dir = '{work_dir}'
randomness = dict(seed=0, deterministic=True)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
auto_scale_lr = dict(enable=False, base_batch_size=4)
model = dict(test_cfg=dict(score_thr=0.0))
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts={keep}), visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""


def write_training(root: Path, *, epochs: int = 1, keep: int = 2) -> Path:
    """A tiny data set and a config to train on it, into ``root/work``."""
    write_config(root / 'detector.py', write_dataset(root / 'data'), epochs=epochs)
    config = root / 'config.py'
    config.write_text(SETTINGS.format(work_dir=root / 'work', keep=keep))
    return config


def environment(**extra: str) -> dict[str, str]:
    """One thread, no display, and nothing of an outer distributed launch."""
    outer = ('DISPLAY', 'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
    kept = {name: value for name, value in os.environ.items() if name not in outer}
    return {**kept, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, **extra}


def run(*command: object, **env: str) -> str:
    """What a command prints; ``.py`` files run with this Python. It must succeed."""
    words = [str(word) for word in command]
    if words[0].endswith('.py'):
        words.insert(0, sys.executable)
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(**env),
        timeout=600,
    )
    assert done.returncode == 0, f'{words}: {done.returncode}\n{done.stdout[-8000:]}'
    return done.stdout


def run_quickly(
    script: Path, *arguments: object, log: Path, before: Callable[[], None] | None = None
) -> int:
    """The exit code of a Python script in a process that has mmdet imported already.

    Args:
        script: The script, run as ``__main__``.
        *arguments: Its arguments.
        log: File for what it prints.
        before: Called first, in that process; must be picklable.
    """
    process = FORKSERVER.Process(
        target=_run_here, args=(script, [str(word) for word in arguments], log, before)
    )
    process.start()
    process.join(600)
    assert process.exitcode is not None, f'{script} hangs'
    return process.exitcode


def _run_here(
    script: Path, arguments: list[str], log: Path, before: Callable[[], None] | None
) -> None:
    import torch

    with open(log, 'wb') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)  # noqa: SIM115
    torch.set_num_threads(1)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    os.environ.pop('DISPLAY', None)
    if before is not None:
        before()
    runpy.run_path(str(script), run_name='__main__')
