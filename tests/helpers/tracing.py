"""The compiled pass without its compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmfocalx.losses.one_pass import compiled


def compile_by_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in a second instead of ten: the traced pass, run by torch's own kernels."""
    compiler = torch.compile

    def tracer(function: Callable[..., Any], *, options: Any = None, **settings: Any) -> Any:
        return compiler(function, **{**settings, 'backend': 'aot_eager'})

    monkeypatch.setattr(torch, 'compile', tracer)
    monkeypatch.setattr(compiled, '_kernels', {})
