"""The factor from upstream, which only the device knows, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip('triton')

SCRIPT = """
import torch
from mmfocalx.losses.one_pass.scaling import scale_unless_one

for size in (1, 4096, 3 * 4096 + 17):
    for dtype in (torch.float32, torch.float64):
        for factor in (1.0, 2.5, 0.0, float('inf')):
            gradient = torch.arange(1, size + 1).to(dtype)
            before, factors = gradient.clone(), torch.tensor([factor, 7.0], dtype=dtype)
            scale_unless_one[2,](gradient, factors[0], size, BLOCK=4096)
            assert torch.equal(gradient, before * factor), (size, dtype, factor)
    buffer = torch.ones(size + 5)
    scale_unless_one[3,](buffer, torch.tensor(2.0), size, BLOCK=1024)
    assert buffer[:size].eq(2).all() and buffer[size:].eq(1).all()
"""


def test_every_element_is_scaled_once() -> None:
    """In a process of its own, as Triton chooses its interpreter when it is imported."""
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        env={**os.environ, 'TRITON_INTERPRET': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
