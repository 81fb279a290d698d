"""tools/slurm_train.sh, before a stand-in for srun that keeps its arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.tiny_runs import ROOT, environment

SCRIPT = ROOT / 'tools/slurm_train.sh'
STAND_IN = '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n'


@pytest.fixture
def path(tmp_path: Path) -> str:
    srun = tmp_path / 'srun'
    srun.write_text(STAND_IN)
    srun.chmod(0o755)
    return f'{tmp_path}:/usr/bin:/bin'


def srun_of(path: str, *arguments: str, **env: str) -> list[str]:
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        env=environment(PATH=path, **env),
        check=True,
        capture_output=True,
        text=True,
        cwd='/',
    )
    return done.stdout.splitlines()


def test_one_process_per_gpu(path: str) -> None:
    words = srun_of(path, 'gpu', 'job', 'my config.py', 'out', '--resume', '--cfg-options', 'a=1')
    assert words == [
        '--partition=gpu',
        '--job-name=job',
        '--gres=gpu:8',
        '--ntasks=8',
        '--ntasks-per-node=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        sys.executable,
        '-u',
        str(ROOT / 'tools/train.py'),
        'my config.py',
        '--work-dir',
        'out',
        '--resume',
        '--cfg-options',
        'a=1',
        '--launcher',
        'slurm',
    ]


@pytest.mark.parametrize(
    ('env', 'expected'),
    [
        (dict(GPUS='64'), ['--gres=gpu:8', '--ntasks=64', '--ntasks-per-node=8']),
        (dict(GPUS='2'), ['--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2']),
        (dict(GPUS='16', GPUS_PER_NODE='4'), ['--gres=gpu:4', '--ntasks-per-node=4']),
        (dict(CPUS_PER_TASK='12'), ['--cpus-per-task=12']),
        (dict(SRUN_ARGS='--time 1:00 --qos=high'), ['--time', '1:00', '--qos=high']),
    ],
)
def test_the_allocation(path: str, env: dict[str, str], expected: list[str]) -> None:
    words = srun_of(path, 'gpu', 'job', 'config.py', 'out', **env)
    assert [word for word in words if word in expected] == expected


def test_too_few_arguments_show_the_usage(path: str) -> None:
    done = subprocess.run([str(SCRIPT), 'gpu'], capture_output=True, text=True)
    assert done.returncode == 2 and 'usage:' in done.stderr and done.stdout == ''


def test_what_srun_starts_takes_these_options(path: str) -> None:
    words = srun_of(path, 'gpu', 'job', 'config.py', 'out', '--help')
    command = words[words.index(sys.executable) :]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=500)
    assert done.returncode == 0 and 'slurm' in done.stdout
