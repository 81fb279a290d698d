"""Checkpoints, command lines and hooks.

Importing it lets PyTorch's restricted loader read checkpoints of MMEngine.
"""

from mmfocalx import compat

compat.require('mmengine')

from mmfocalx.engine.checkpoint import (  # noqa: E402
    TornCheckpointError,
    UntrustedCheckpointError,
    allow_mmengine_types,
    is_whole,
    newest_whole_checkpoint,
)
from mmfocalx.engine.loss_signals import LossSignalsHook  # noqa: E402
from mmfocalx.engine.num_classes import NumClassesHook  # noqa: E402
from mmfocalx.engine.warmup import WarmupHook  # noqa: E402

allow_mmengine_types()

__all__ = [
    'LossSignalsHook',
    'NumClassesHook',
    'TornCheckpointError',
    'UntrustedCheckpointError',
    'WarmupHook',
    'allow_mmengine_types',
    'is_whole',
    'newest_whole_checkpoint',
]
