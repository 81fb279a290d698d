"""What the demo does on Ctrl-C, and what the pictures of losses say of a wrong argument."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
sys.path.insert(0, 'tools')
import demo
demo.run('-c', 'import time\\ntry:\\n    print("at work", flush=True); time.sleep({seconds})\\n'
         'finally:\\n    print("ended", flush=True)')
print('next')
"""


def start(seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT.format(seconds=seconds)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def test_ctrl_c_ends_the_demo_without_a_traceback() -> None:
    process = start(60)
    assert process.stdout is not None
    while process.stdout.readline() != 'at work\n':
        pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and child
    began = time.monotonic()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert time.monotonic() - began < 20
    assert 'Traceback' not in output
    assert 'next' not in output
    assert 'Interrupted; the same command goes on from here.' in output


def test_without_ctrl_c_the_demo_goes_on() -> None:
    process = start(0)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert output.split()[-2:] == ['ended', 'next']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--config', 'lost.py'], 'but got lost.py: FileNotFoundError'),
        (['--config', 'tests'], 'but got tests'),
        (['--config', 'README.md'], 'but got README.md'),
        (['--out', 'README.md'], 'README.md'),
    ],
)
def test_wrong_arguments_of_plot_losses_are_named(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, 'tools/analysis/plot_losses.py', '--out', str(tmp_path), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
