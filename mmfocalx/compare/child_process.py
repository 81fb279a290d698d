"""Child processes that never outlive, and never write beside, the process that started them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == 'linux' else None


@contextlib.contextmanager
def locked(directory: Path, patience: float = 20.0) -> Iterator[int]:
    """Hold an exclusive lock on a directory, shared with the children that write into it.

    The lock belongs to the open file, which children inherit: it stays held until the last of
    them is gone, even when the process that took it was killed.

    Args:
        directory: Directory to lock; created if missing.
        patience: Seconds to wait for another holder to let go.

    Yields:
        The file descriptor that a child has to inherit.

    Raises:
        BlockingIOError: If another process still holds the lock after ``patience`` seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(descriptor, 32, 0).decode(errors='replace').strip()
                    raise BlockingIOError(
                        f'{directory} is in use by process {holder or "unknown"}'
                    ) from None
                time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


class Child:
    """A command in a session of its own, with its output in a log file.

    Args:
        command: Program and arguments.
        log: File that standard output and error are appended to.
        lock: Descriptor of the lock (:func:`locked`) that the child inherits.
        env: Variables added to this process's environment.
    """

    def __init__(self, command: Sequence[str], log: Path, lock: int, env: dict[str, str]) -> None:
        self.log = log
        self.started = time.time()
        self.peak_rss_mb = 0.0
        parent = os.getpid()
        with log.open('ab') as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
                pass_fds=[lock],
                preexec_fn=lambda: _die_with(parent),
            )
        self.pid = self._process.pid

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.time() - self.started

    def poll(self) -> int | None:
        """Exit code (negative: the signal that ended it), or None while it runs."""
        if self._process.returncode is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                kilobytes = usage.ru_maxrss / (1 if sys.platform == 'linux' else 1024)
                self.peak_rss_mb = kilobytes / 1024
        return self._process.returncode

    def stop(self, grace: float = 5.0) -> None:
        """End the child and everything it started: SIGTERM, then SIGKILL after ``grace`` s."""
        deadline = time.monotonic() + grace
        self._signal_group(signal.SIGTERM)
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_group(signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.05)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _die_with(parent: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that children are ended on the way."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
