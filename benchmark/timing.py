"""Interleaved times of the candidates of a case, each checked against ours first."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from benchmark.cases import Batch, Case
from benchmark.peers import PLAIN, Candidate, candidates, gradient_step

TOLERANCE = {'fp32': 1e-5, 'bf16': 2e-2}
"""Relative to the value, and to the largest entry of the gradient."""
LARGE = 10_000_000
GIVEN_BACK = 2**24
"""Bytes of logits above which glibc, by default, gives memory back between some of the steps."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
Step = Callable[[], Any]


def measure(case: Case, rounds: int | None = None) -> dict[str, Any]:
    """Times and page faults of all candidates of a case, run in turn.

    Args:
        case: the case.
        rounds: measured steps of each; None for 9, or 5 from ten million entries.
    """
    graphs = counters['stats']['unique_graphs']
    batch = case.batch()
    if keeps_freed_memory(case):
        keep_freed_memory()
    found, missing = candidates(case, batch)
    steps, verdicts = prepare(case, batch, found)
    if rounds is None:
        rounds = 9 if case.size.entries < LARGE else 5
    samples = interleaved(steps, rounds)
    return {
        **case.record,
        'rounds': rounds,
        'logits_bytes': case.logits_bytes,
        'graphs_compiled': counters['stats']['unique_graphs'] - graphs,
        'missing': missing,
        'candidates': {
            name: {**verdict, **samples.get(name, {})} for name, verdict in verdicts.items()
        },
    }


def keeps_freed_memory(case: Case) -> bool:
    """Whether a case is timed with the memory of its process kept."""
    return case.logits_bytes > GIVEN_BACK


def keep_freed_memory() -> None:
    """Freed memory stays with the process, where the C library is glibc.

    Whether a large tensor has to get its memory from the kernel depends on what other steps left
    free otherwise.
    """
    set_option = getattr(ctypes.CDLL(None), 'mallopt', None)
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, 2**31 - 1)


def prepare(
    case: Case, batch: Batch, found: list[Candidate]
) -> tuple[dict[str, Step], dict[str, dict[str, Any]]]:
    """The steps that may be timed, each warmed up, and how each compares with the first."""
    reference = found[0]
    if reference.value is None:
        raise ValueError('the first candidate must be a loss')
    expected = gradient_step(reference.value, batch.logits)
    buffer = torch.zeros_like(batch.logits)
    steps: dict[str, Step] = {}
    verdicts: dict[str, dict[str, Any]] = {}
    for name, value, same in found:
        if value is None:
            steps[name] = partial(PLAIN[name], batch.logits, buffer)
            verdicts[name] = {'compared': 'yardstick'}
            continue
        try:
            got = gradient_step(value, batch.logits)
        except Exception as error:  # whatever another library raises is its result
            verdicts[name] = {'compared': 'fails', 'reason': f'{type(error).__name__}: {error}'}
            continue
        verdicts[name] = {'compared': 'yardstick'}
        if same:
            verdicts[name] = agreement(got, expected, TOLERANCE[case.dtype])
        if verdicts[name]['compared'] != 'not the same function':
            steps[name] = partial(gradient_step, value, batch.logits)
    return steps, verdicts


def agreement(
    got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], tolerance: float
) -> dict[str, Any]:
    """Whether value and gradient agree, and how far they are apart."""
    value = _distance(got[0], expected[0])
    gradient = _distance(got[1], expected[1])
    agrees = value <= tolerance and gradient <= tolerance  # False for NaN
    return {
        'compared': 'same function' if agrees else 'not the same function',
        'value_error': value,
        'gradient_error': gradient,
    }


def _distance(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float('inf')
    scale = expected.abs().max().double().item()
    return (got - expected).abs().max().double().item() / (scale or 1.0)


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds and page faults of each step: all run once a round, each round another one first."""
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    faults: dict[str, list[int]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds + 1):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                start = time.perf_counter()
                result = steps[name]()
                end = time.perf_counter()
                after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                del result
                if turn:  # the first round warms up
                    seconds[name].append(end - start)
                    faults[name].append(after - before)
    finally:
        gc.enable()
    first = np.array(seconds[names[0]])
    return {
        name: {
            'seconds': seconds[name],
            'median_ms': 1e3 * float(np.median(seconds[name])),
            'quartiles_ms': (1e3 * np.quantile(seconds[name], [0.25, 0.75])).tolist(),
            'ratio': float(np.median(seconds[name]) / np.median(first)),
            'page_faults': int(np.median(faults[name])),
        }
        for name in names
    }
