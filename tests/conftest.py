"""What several files of tests start from."""

from __future__ import annotations

import pytest

from helpers.tracing import compile_by_tracing


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """See :func:`compile_by_tracing`."""
    compile_by_tracing(monkeypatch)
