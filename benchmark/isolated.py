"""What can only be measured in a process of its own: peak memory, first steps, numbers of threads.

The process is this module, with the name of one of :data:`JOBS` and its arguments as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._dynamo.utils import counters

from benchmark.cases import Case
from benchmark.detector import DetectorCase, measure_detector
from benchmark.devices import DEVICES
from benchmark.heads import HeadCase, measure_heads
from benchmark.query_heads import QUERY_HEADS, measure_query_heads
from benchmark.steps import WITHOUT_GRADIENT, gradient_step, steps_of

CACHE = 'TORCHINDUCTOR_CACHE_DIR'
WARM_PROCESSES = 9
ROOT = str(Path(__file__).resolve().parents[1])


def in_new_process(job: str, env: Mapping[str, str] | None = None, **arguments: Any) -> Any:
    """The result of one of :data:`JOBS`, measured by a new process.

    Raises:
        RuntimeError: with the end of what the process printed, if it fails.
    """
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get('PYTHONPATH')]))
    run = subprocess.run(
        [sys.executable, '-m', __name__, job, json.dumps(arguments)],
        env={**os.environ, 'PYTHONPATH': path, **(env or {})},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f'{job} with {arguments} failed: {run.stderr[-2000:]}')
    return json.loads(run.stdout.splitlines()[-1])


def first_steps(case: Case, device: str = 'cpu', processes: int = WARM_PROCESSES) -> dict[str, Any]:
    """Seconds of the first step with an empty and, in ``processes``, a filled compiler cache."""
    with tempfile.TemporaryDirectory() as cache:
        cold, *warm = (
            in_new_process('first_step', {CACHE: cache}, record=case.record, device=device)
            for _ in range(1 + processes)
        )
    return {'loss': case.loss, 'cold': cold, 'warm': warm_summary(warm)}


def warm_summary(steps: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Median and quartiles of the first steps, median of the second ones."""
    first, second = ([step[f'{which}_seconds'] for step in steps] for which in ('first', 'second'))
    return {
        'processes': len(steps),
        'samples': first,
        'median_seconds': float(np.median(first)),
        'quartiles_seconds': np.quantile(first, [0.25, 0.75]).tolist(),
        'second_seconds': float(np.median(second)),
    }


def first_step(record: Mapping[str, Any], device: str = 'cpu') -> dict[str, Any]:
    """First and second step, and the graphs after steps of four other sizes."""
    case = Case.of_record(record)
    batch = case.batch(device)
    loss, target = case.build(fused=True).to(device), batch.target()

    def seconds(rows: int) -> float:
        part = target[:rows] if isinstance(target, torch.Tensor) else [t[:rows] for t in target]
        start = time.perf_counter()
        value = partial(loss, target=part, avg_factor=rows + 0.5)
        gradient_step(value, batch.logits[:rows])[0].item()  # waits for the device
        return time.perf_counter() - start

    rows = case.size.rows
    first, second = seconds(rows), seconds(rows)
    graphs = counters['stats']['unique_graphs']
    for other in (rows // 2, rows // 3, 2, 1):
        seconds(other)
    return {
        'first_seconds': first,
        'second_seconds': second,
        'graphs': graphs,
        'graphs_after_other_sizes': counters['stats']['unique_graphs'],
    }


def memory(
    record: Mapping[str, Any], names: Sequence[str] = (), device: str = 'cpu'
) -> dict[str, float | None]:
    """Peak bytes of a warmed-up step above what logits and targets take, None where it fails.

    It is the smallest of three: the allocator of a CPU may add to it, and never takes away.
    """
    case = Case.of_record(record)
    steps, _ = steps_of(case, case.batch(device))
    peaks: dict[str, float | None] = {}
    for step in steps:
        if step.name in WITHOUT_GRADIENT or (names and step.name not in names):
            continue
        try:
            for _ in range(2):
                step.run()
            found = [DEVICES[device].peak(step.run) for _ in range(3)]
            peaks[step.name] = min((peak for peak in found if peak is not None), default=None)
        except Exception:  # whatever another library raises, the timing says so
            peaks[step.name] = None
    return peaks


def heads(record: Mapping[str, Any], device: str = 'cpu', **options: Any) -> dict[str, Any]:
    """See :func:`benchmark.heads.measure_heads`."""
    measure = measure_query_heads if record['head'] in QUERY_HEADS else measure_heads
    return measure(HeadCase(**record), device=DEVICES[device], **options)


def iteration(record: Mapping[str, Any], device: str = 'cpu', **options: Any) -> dict[str, Any]:
    """See :func:`benchmark.detector.measure_detector`."""
    return measure_detector(DetectorCase(**record), device=DEVICES[device], **options)


JOBS: dict[str, Callable[..., Any]] = {
    'first_step': first_step,
    'memory': memory,
    'heads': heads,
    'iteration': iteration,
}


def main(argv: Sequence[str]) -> int:
    """Print the result of a job as JSON."""
    job, arguments = argv
    print(json.dumps(JOBS[job](**json.loads(arguments))))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
