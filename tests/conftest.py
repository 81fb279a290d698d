"""What several files of tests start from."""

from __future__ import annotations

import signal

import pytest

from helpers.tracing import compile_by_tracing

# A shell that starts the tests in the background has Ctrl-C ignored, and so would every process
# that they start, those that are to be interrupted too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """See :func:`compile_by_tracing`."""
    compile_by_tracing(monkeypatch)
