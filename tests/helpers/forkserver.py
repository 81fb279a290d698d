"""Processes forked from one that has imported mmdet: they start in a tenth of a second."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

LONGEST_WAIT = datetime.timedelta(minutes=2)
"""For another rank: then ranks that wait for each other are an error."""
FORKSERVER = multiprocessing.get_context('forkserver')
FORKSERVER.set_forkserver_preload(
    ['mmdet.models', 'mmdet.datasets', 'mmdet.evaluation', 'mmfocalx.compare.cli']
)


def run_ranks(function: Callable[..., Any], ranks: int, folder: Path, *arguments: Any) -> list[Any]:
    """What ``function(rank, *arguments)`` returns on each of several gloo ranks on loopback."""
    torch.multiprocessing.start_processes(
        _run_rank, (function, ranks, folder, arguments), nprocs=ranks, start_method='forkserver'
    )
    return [torch.load(path) for path in _results(ranks, folder)]


def _results(ranks: int, folder: Path) -> list[Path]:
    return [folder / f'{rank}.pth' for rank in range(ranks)]


def _run_rank(
    rank: int, function: Callable[..., Any], ranks: int, folder: Path, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder / "rendezvous"}',
        timeout=LONGEST_WAIT,
        rank=rank,
        world_size=ranks,
    )
    torch.save(function(rank, *arguments), _results(ranks, folder)[rank])
    while not all(path.exists() for path in _results(ranks, folder)):
        time.sleep(0.01)
    # Nothing is destroyed: torch's gloo group then waits, with the interpreter locked, for its
    # threads, and at times one of those waits for the interpreter, to free a tensor.
    os._exit(0)
