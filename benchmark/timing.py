"""Interleaved times of the steps of a case, each checked against ours first."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch._dynamo.utils import counters

from benchmark.cases import Case
from benchmark.devices import DEVICES, Device
from benchmark.steps import Step, steps_of

TOLERANCE = {'fp32': 1e-5, 'bf16': 2e-2}
"""Relative to the value, and to the largest entry of the gradient."""
LARGE = 10_000_000
GIVEN_BACK = 2**24
"""Bytes of logits above which glibc, by default, gives memory back between some of the steps."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def measure(
    case: Case, rounds: int | None = None, device: Device = DEVICES['cpu']
) -> dict[str, Any]:
    """Times of all steps of a case, run in turn.

    Args:
        case: the case.
        rounds: samples of each step; None for 9, or 5 from ten million entries.
        device: where, and with what it is measured.
    """
    graphs = counters['stats']['unique_graphs']
    batch = case.batch(device.name)
    if keeps_freed_memory(case):
        keep_freed_memory()
    found, missing = steps_of(case, batch)
    steps, verdicts = prepare(found, TOLERANCE[case.dtype])
    if rounds is None:
        rounds = 9 if case.size.entries < LARGE else 5
    samples = interleaved(steps, rounds, device)
    for step in steps:
        waits = device.host_waits(step.run)
        if waits is not None:
            samples[step.name]['host_waits'] = waits
    return {
        **case.record,
        'rounds': rounds,
        'graphs_compiled': counters['stats']['unique_graphs'] - graphs,
        'missing': missing,
        'steps': {name: {**verdict, **samples.get(name, {})} for name, verdict in verdicts.items()},
    }


def keeps_freed_memory(case: Case) -> bool:
    """Whether a case is timed with the memory of its process kept."""
    bytes_of_logits: int = case.record['logits_bytes']
    return bytes_of_logits > GIVEN_BACK


def keep_freed_memory() -> None:
    """Freed memory stays with the process, where the C library is glibc.

    Whether a large tensor has to get its memory from the kernel depends on what other steps left
    free otherwise.
    """
    set_option = getattr(ctypes.CDLL(None), 'mallopt', None)
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, 2**31 - 1)


def prepare(found: Sequence[Step], tolerance: float) -> tuple[list[Step], dict[str, Any]]:
    """The steps that may be timed, each warmed up, and how each compares with the first."""
    expected = found[0].run() if found else ()
    steps: list[Step] = []
    verdicts: dict[str, Any] = {}
    for step in found:
        step.restore()
        try:
            got = step.run()
        except Exception as error:  # whatever another library raises is its result
            verdicts[step.name] = {
                'compared': 'fails',
                'reason': f'{type(error).__name__}: {error}',
            }
            continue
        verdicts[step.name] = (
            agreement(got, expected, tolerance) if step.is_peer else {'compared': 'yardstick'}
        )
        if verdicts[step.name]['compared'] != 'not the same function':
            steps.append(step)
    return steps, verdicts


def agreement(
    got: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float
) -> dict[str, Any]:
    """Whether a value and the gradients behind it agree, and how far they are apart."""
    distances = [_distance(*pair) for pair in zip(got, expected, strict=True)]
    agrees = all(distance <= tolerance for distance in distances)  # False for NaN
    return {
        'compared': 'same function' if agrees else 'not the same function',
        'value_error': distances[0],
        'gradient_error': float(np.max(distances[1:])),
    }


def _distance(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float('inf')
    scale = expected.abs().max().double().item()
    return (got - expected).abs().max().double().item() / (scale or 1.0)


def interleaved(
    steps: Sequence[Step], rounds: int, device: Device = DEVICES['cpu']
) -> dict[str, dict[str, Any]]:
    """What a device measures of each step: all run once a round, each round another one first."""
    samples: dict[str, list[dict[str, float]]] = {step.name: [] for step in steps}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds + 1):
            shift = turn % max(len(steps), 1)
            for step in [*steps[shift:], *steps[:shift]]:
                step.restore()
                sample = device.sample(step.run)
                if turn:  # the first round warms up
                    samples[step.name].append(sample)
    finally:
        gc.enable()
    if not steps:
        return {}
    first = np.median([sample['seconds'] for sample in samples[steps[0].name]])
    return {name: _summary(of_step, float(first)) for name, of_step in samples.items()}


def _summary(samples: Sequence[dict[str, float]], first: float) -> dict[str, Any]:
    columns = {key: [sample[key] for sample in samples] for key in samples[0]}
    seconds = columns['seconds']
    summary: dict[str, Any] = {
        'samples': seconds,
        'median_ms': 1e3 * float(np.median(seconds)),
        'quartiles_ms': (1e3 * np.quantile(seconds, [0.25, 0.75])).tolist(),
        'ratio': float(np.median(seconds)) / first,
    }
    if 'page_faults' in columns:
        summary['page_faults'] = int(np.median(columns['page_faults']))
    if 'host_seconds' in columns:
        summary['host_ms'] = 1e3 * float(np.median(columns['host_seconds']))
    return summary
