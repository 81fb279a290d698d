"""How steps are measured: on the CPU, and on a GPU as far as that can be seen without one."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import pytest
import torch

from benchmark import cases, devices, steps, timing


class Event:
    """A CUDA event of a GPU that is never behind."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.time: float | None = None

    def record(self) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        assert self.time is not None

    def elapsed_time(self, end: Event) -> float:
        assert self.time is not None and end.time is not None
        return 1e3 * (end.time - self.time)


class Allocator:
    """The caching allocator of a GPU where a step takes 700 bytes and gives them back."""

    def __init__(self) -> None:
        self.now, self.most = 100, 10_000

    def step(self) -> None:
        self.most = max(self.most, self.now + 700)


@pytest.fixture
def gpu(monkeypatch: Any) -> Allocator:
    allocator = Allocator()
    modes = {'default': 0, 'warn': 1, 'error': 2}
    mode = [0]
    replaced = {
        'Event': Event,
        'synchronize': lambda: None,
        'reset_peak_memory_stats': lambda: setattr(allocator, 'most', allocator.now),
        'memory_allocated': lambda: allocator.now,
        'max_memory_allocated': lambda: allocator.most,
        'get_sync_debug_mode': lambda: mode[0],
        'set_sync_debug_mode': lambda new: mode.__setitem__(0, modes.get(new, new)),
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return allocator


def wait() -> None:
    """What a step does that makes the host wait, in the debug mode 'warn'."""
    assert torch.cuda.get_sync_debug_mode() == 1
    warnings.warn('called a synchronizing CUDA operation', stacklevel=1)


def test_seconds_of_a_step_on_the_cpu() -> None:
    sample = devices.Cpu().sample(lambda: time.sleep(0.02))
    assert 0.02 <= sample['seconds'] < 0.5
    assert sample['page_faults'] >= 0


@pytest.mark.skipif(sys.platform != 'linux', reason='the peak of a process is read from Linux')
def test_peak_of_a_step_on_the_cpu() -> None:
    size = 64 * 2**20
    peak = devices.Cpu().peak(lambda: torch.ones(size // 4).add_(1))
    assert peak is not None and 0.95 < peak / size < 1.2
    assert devices.Cpu().host_waits(lambda: None) is None


def test_seconds_of_a_step_on_a_gpu(gpu: Allocator) -> None:
    """A sample is several steps, of which it tells the mean."""
    runs = []
    sample = devices.Cuda().sample(lambda: (time.sleep(0.02), runs.append(1)))
    assert len(runs) == devices.Cuda.steps_per_sample
    assert 0.02 <= sample['host_seconds'] <= sample['seconds'] < 0.09


def test_a_stopwatch_reads_the_device_when_asked(gpu: Allocator) -> None:
    stop = devices.Cuda().stopwatch()
    time.sleep(0.02)
    read = stop()
    time.sleep(0.1)
    assert 0.02 <= read() < 0.1


def test_peak_of_a_step_on_a_gpu(gpu: Allocator) -> None:
    assert devices.Cuda().peak(gpu.step) == 700


def test_host_waits_are_counted_one_by_one(gpu: Allocator) -> None:
    def step() -> None:
        for _ in range(3):
            wait()
        warnings.warn('something else', stacklevel=1)

    assert devices.Cuda().host_waits(step) == 3
    assert torch.cuda.get_sync_debug_mode() == 0


def test_the_debug_mode_is_put_back_after_a_failure(gpu: Allocator) -> None:
    torch.cuda.set_sync_debug_mode(2)
    with pytest.raises(ZeroDivisionError):
        devices.Cuda().host_waits(lambda: 1 / 0)
    assert torch.cuda.get_sync_debug_mode() == 2


def test_a_whole_case_as_on_a_gpu(gpu: Allocator, monkeypatch: Any) -> None:
    """Everything but the tensors' device."""
    monkeypatch.setenv('MMFOCALX_FUSED', '0')
    like_a_gpu = devices.Cuda()
    like_a_gpu.name = 'cpu'
    measured = timing.measure(cases.Case('FocalLossX', cases.Size(64, 3)), 2, like_a_gpu)
    ours = measured['steps'][steps.OURS]
    assert {'median_ms', 'quartiles_ms', 'ratio', 'host_ms', 'host_waits'} <= set(ours)
    assert ours['host_ms'] <= ours['median_ms'] * 1.01
    assert 'page_faults' not in ours


def test_the_operator_of_mmcv_is_a_peer_on_a_gpu_alone() -> None:
    from benchmark.peers import peers_of

    names = {
        device: {peer.library for peer in peers_of('FocalLossX', device)}
        for device in ('cpu', 'cuda')
    }
    assert names['cuda'] - names['cpu'] == {'mmcv'}
