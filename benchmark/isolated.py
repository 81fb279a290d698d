"""What can only be measured in a process of its own: peak memory and the first step."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from benchmark.cases import Case, Size
from benchmark.peers import candidates, gradient_step

CACHE = 'TORCHINDUCTOR_CACHE_DIR'
WARM_PROCESSES = 9


def in_new_process(
    what: str, case: Case, names: Sequence[str] = (), env: dict[str, str] | None = None
) -> Any:
    """The result of 'memory' or 'first' of a case, measured by a new process.

    Raises:
        RuntimeError: with the end of what the process printed, if it fails.
    """
    arguments = [what, case.loss, str(case.size), case.dtype, case.form, *names]
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
    run = subprocess.run(
        [sys.executable, '-m', __name__, *arguments],
        env={**os.environ, 'PYTHONPATH': path, **(env or {})},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f'{what} of {case.name} failed: {run.stderr[-2000:]}')
    return json.loads(run.stdout.splitlines()[-1])


def first_steps(case: Case) -> dict[str, Any]:
    """Seconds of the first step with an empty and with a filled compiler cache."""
    with tempfile.TemporaryDirectory() as cache:
        cold, *warm = (
            in_new_process('first', case, env={CACHE: cache}) for _ in range(1 + WARM_PROCESSES)
        )
    return {'loss': case.loss, 'cold': cold, 'warm': warm}


def _first(case: Case) -> dict[str, Any]:
    """First and second step, and the graphs after steps of other sizes and factors."""
    batch = case.batch()
    loss = case.build(fused=True)
    target = batch.target
    times = []
    for _ in range(2):
        start = time.perf_counter()
        gradient_step(lambda x: loss(x, target, avg_factor=batch.avg_factor), batch.logits)
        times.append(time.perf_counter() - start)
    graphs = [counters['stats']['unique_graphs']]
    for rows in (case.size.rows // 2, case.size.rows // 3, 2, 1):
        part = target[:rows] if isinstance(target, torch.Tensor) else [t[:rows] for t in target]
        gradient_step(
            partial(loss, target=part, avg_factor=rows + 0.5),
            batch.logits[:rows],
        )
    graphs.append(counters['stats']['unique_graphs'])
    return {
        'first_seconds': times[0],
        'second_seconds': times[1],
        'graphs': graphs[0],
        'graphs_after_other_sizes': graphs[1],
    }


def _memory(case: Case, names: Sequence[str]) -> dict[str, float | None]:
    """Peak bytes of a warmed-up step above what logits and targets take."""
    batch = case.batch()
    found, _ = candidates(case, batch)
    peaks: dict[str, float | None] = {}
    for name, value, _ in found:
        if value is None or (names and name not in names):
            continue
        try:
            for _ in range(2):
                gradient_step(value, batch.logits)
            peaks[name] = _peak(partial(gradient_step, value, batch.logits))
        except Exception:  # whatever another library raises, the timing says so
            peaks[name] = None
    return peaks


def _peak(step: Any) -> float | None:
    gc.collect()
    if sys.platform != 'linux':
        return None
    ctypes.CDLL(None).malloc_trim(0)
    before = _status('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    result = step()
    peak = _status('VmHWM') - before
    del result
    return peak


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(field + ':')))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('what', choices=['memory', 'first'])
    parser.add_argument('loss')
    parser.add_argument('size', type=Size.parse)
    parser.add_argument('dtype')
    parser.add_argument('form')
    parser.add_argument('names', nargs='*')
    args = parser.parse_args(argv)
    case = Case(args.loss, args.size, args.dtype, args.form)
    result = _first(case) if args.what == 'first' else _memory(case, args.names)
    print(json.dumps(result))
    return 0


if __name__ == '__main__':
    sys.exit(main())
