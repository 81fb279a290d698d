"""What several files of tests start from."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mmfocalx.losses import fused


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in a second instead of ten: the traced pass, run by torch's own kernels."""
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='aot_eager'))
    monkeypatch.setattr(fused, '_passes', {})
