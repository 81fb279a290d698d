"""How a step is measured on a device: its time, its memory, and how often the host waits."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

Run = Callable[[], Any]
Stopwatch = Callable[[], Callable[[], float]]
"""Calling it stops the watch; calling what it gives then waits for the device: the seconds."""
SYNCHRONIZES = 'called a synchronizing CUDA operation'
"""What torch warns of in its sync debug mode."""


class Device(Protocol):
    """What is measured of a step, and how.

    Attributes:
        name: the device's type, as torch calls it.
        steps_per_sample: how many steps a sample is the mean of.
    """

    name: str
    steps_per_sample: int

    def sample(self, run: Run) -> dict[str, float]:
        """``seconds`` of a step, and what else the device tells of each."""

    def stopwatch(self) -> Stopwatch:
        """Start a watch, for a part of a step."""

    def peak(self, run: Run) -> int | None:
        """Peak bytes of a step above what was taken before it; None where that is not known."""

    def host_waits(self, run: Run) -> int | None:
        """How often the host waits for the device within a step; None if they are one."""


class Cpu:
    """Wall-clock time, page faults, and the peak of the process (on Linux)."""

    name = 'cpu'
    steps_per_sample = 1

    def sample(self, run: Run) -> dict[str, float]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        result = run()
        end = time.perf_counter()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del result
        return {'seconds': end - start, 'page_faults': after - before}

    def stopwatch(self) -> Stopwatch:
        start = time.perf_counter()

        def stop() -> Callable[[], float]:
            seconds = time.perf_counter() - start
            return lambda: seconds

        return stop

    def peak(self, run: Run) -> int | None:
        gc.collect()
        if sys.platform != 'linux':
            return None
        ctypes.CDLL(None).malloc_trim(0)
        before = _status('VmRSS')
        Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
        result = run()
        peak = _status('VmHWM') - before
        del result
        return peak

    def host_waits(self, run: Run) -> int | None:
        return None


class Cuda:
    """CUDA events, the host's own time, and the peak of torch's caching allocator."""

    name = 'cuda'
    steps_per_sample = 5
    """Steps between two events, so that the first launch counts little."""

    def sample(self, run: Run) -> dict[str, float]:
        """``seconds`` on the device, and ``host_seconds`` until the host has queued the step."""
        torch.cuda.synchronize()
        stop = self.stopwatch()
        start = time.perf_counter()
        for _ in range(self.steps_per_sample):
            run()
        host = time.perf_counter() - start
        seconds = stop()()
        return {
            'seconds': seconds / self.steps_per_sample,
            'host_seconds': host / self.steps_per_sample,
        }

    def stopwatch(self) -> Stopwatch:
        begin = torch.cuda.Event(enable_timing=True)
        begin.record()

        def stop() -> Callable[[], float]:
            end = torch.cuda.Event(enable_timing=True)
            end.record()

            def seconds() -> float:
                end.synchronize()
                return begin.elapsed_time(end) / 1e3

            return seconds

        return stop

    def peak(self, run: Run) -> int | None:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        del result
        return peak

    def host_waits(self, run: Run) -> int | None:
        torch.cuda.synchronize()
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode('warn')
        try:
            return warnings_like(SYNCHRONIZES, run)
        finally:
            torch.cuda.set_sync_debug_mode(mode)


DEVICES: dict[str, Device] = {'cpu': Cpu(), 'cuda': Cuda()}


def warnings_like(text: str, run: Run) -> int:
    """How many warnings with a text a step gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        run()
    return sum(text in str(warning.message) for warning in caught)


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field + ':')))
