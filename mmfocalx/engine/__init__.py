"""Checkpoints and command lines. Importing it lets PyTorch's restricted loader read MMEngine's."""

from mmfocalx import compat

compat.require('mmengine')

from mmfocalx.engine.checkpoint import (  # noqa: E402
    TornCheckpointError,
    UntrustedCheckpointError,
    allow_mmengine_types,
    is_whole,
    newest_whole_checkpoint,
)

allow_mmengine_types()

__all__ = [
    'TornCheckpointError',
    'UntrustedCheckpointError',
    'allow_mmengine_types',
    'is_whole',
    'newest_whole_checkpoint',
]
