"""Runs the command-line tools that mmdet ships, with checkpoints that load safely and last."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import runpy
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.device import get_device
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import Runner, runner

from mmfocalx import compat
from mmfocalx.engine import checkpoint
from mmfocalx.engine.num_classes import NumClassesHook
from mmfocalx.engine.warmup import WarmupHook

CHECKS = NumClassesHook, WarmupHook


class LastingBackend(LocalBackend):
    """Local files that are written whole or not at all, and removed once their successor is.

    MMEngine overwrites files in place, and removes an outdated checkpoint before it writes the
    next. Killed in between, a training that keeps one checkpoint would have none.
    """

    _outdated: ClassVar[set[str]] = set()

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write through a temporary file beside ``filepath``, then remove what is outdated."""
        filepath = os.fspath(filepath)
        os.makedirs(os.path.dirname(filepath) or '.', exist_ok=True)
        partial_path = f'{filepath}.part'
        with open(partial_path, 'wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial_path, filepath)
        self._outdated.discard(filepath)
        while self._outdated and filepath.endswith('.pth'):
            super().remove(self._outdated.pop())

    def remove(self, filepath: str | Path) -> None:
        """Remove a file; a checkpoint once the next one is written."""
        filepath = os.fspath(filepath)
        if filepath.endswith('.pth') and self.isfile(filepath):
            self._outdated.add(filepath)
        else:
            super().remove(filepath)


def run(tool: str) -> None:
    """Run a tool of mmdet with the arguments of this process and ``--trust-checkpoint``.

    Checkpoints load restricted to safe types unless the flag is given, are written atomically, and
    ``--resume`` without a path takes the newest one that is whole. Ranks launched on a machine
    without an accelerator communicate through gloo. Every config gets
    :class:`~mmfocalx.engine.NumClassesHook` and :class:`~mmfocalx.engine.WarmupHook`.

    Args:
        tool: File name below mmdet's ``tools``, such as ``'train.py'``.

    Raises:
        ImportError: if mmdet, or what it needs, is missing or unsupported.
        FileNotFoundError: if mmdet was installed without its tools.
    """
    compat.require('mmdet')
    script = _shipped(tool)
    trusted = checkpoint.TRUST_FLAG in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != checkpoint.TRUST_FLAG]
    if {'-h', '--help'} & {*sys.argv}:
        print(f'{checkpoint.TRUST_FLAG} (beside the options of mmdet below): load checkpoints that '
              'may run code; only for files whose author you trust\n')  # fmt: skip
    load = partial(torch.load, weights_only=False) if trusted else checkpoint.load
    torch.load = load  # type: ignore[assignment]
    runner.find_latest_checkpoint = checkpoint.newest_whole_checkpoint
    register_backend('local', LastingBackend, force=True, prefixes='')
    _add_checks()
    finished = threading.Event()
    if get_device() == 'cpu' and 'RANK' in os.environ:
        atexit.register(_end_process, finished)
        _join_ranks_on_cpu()
    runpy.run_path(str(script), run_name='__main__')
    finished.set()


def _end_process(finished: threading.Event) -> None:
    """End the process of a finished rank here, after the exit functions that its tool registered.

    While the interpreter is taken down, gloo's threads abort the process or hang it now and then,
    and the launcher takes the whole run for failed.
    """
    if finished.is_set():
        for child in multiprocessing.active_children():
            child.terminate()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _shipped(tool: str) -> Path:
    spec = find_spec('mmdet')
    folders = spec.submodule_search_locations if spec else None
    script = Path(next(iter(folders or ['mmdet'])), '.mim', 'tools', tool)
    if not script.is_file():
        raise FileNotFoundError(
            f'mmdet was installed without its tools: no {script}. Install it again from its wheel, '
            'or with MIM'
        )
    return script


def _add_checks() -> None:
    """Add the hooks that look at a config to those of every runner."""
    register_hooks = Runner.register_hooks

    def register_hooks_and_check(self: Any, *args: Any, **kwargs: Any) -> None:
        register_hooks(self, *args, **kwargs)
        for check in CHECKS:
            if not any(isinstance(hook, check) for hook in self.hooks):
                self.register_hook(check())

    Runner.register_hooks = register_hooks_and_check


def _join_ranks_on_cpu() -> None:
    """Start gloo, and wrap models without device ids: MMEngine does neither without a GPU."""
    torch.distributed.init_process_group('gloo')
    wrap_model = Runner.wrap_model

    def wrap_model_on_cpu(self: Any, model_wrapper_cfg: dict[str, Any] | None, model: Any) -> Any:
        if model_wrapper_cfg is None:
            model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            )
        return wrap_model(self, model_wrapper_cfg, model)

    Runner.wrap_model = wrap_model_on_cpu
