from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .checks import check_number, wrong
from .functional import slide_weight
from .targets import CheckedTarget, Target, values_are_checked

MIN_MEAN_QUALITY = 0.2
OWNED_BY_OUTER = (
    'activated', 'fused', 'ignore_index', 'label_smoothing', 'loss_weight', 'ohem_ratio',
    'reduction',
)  # fmt: skip


@MODELS.register_module()
class SlideLossX(DenseClsLoss):
    """Slide loss, Yu et al. 2022 (YOLO-FaceV2), https://arxiv.org/abs/2208.02019.

    Weighs the entries of another sigmoid loss by how close their quality is to the mean.

    Args:
        loss: config of the weighed loss, without the settings that belong to this one; None
            for binary cross-entropy.
        auto_iou: the mean quality: 'mean' for that of the positives over all ranks, or a
            number in [0, 1]. Never below 0.2.
        momentum: share in [0, 1) of the running mean that a new one leaves in place.
        kwargs: see :class:`DenseClsLoss`.

    Attributes:
        running: 0-d buffer, the running mean quality; only with ``auto_iou='mean'``.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True
    bce_settings = {'auto_iou': 0.05}
    running: Tensor

    def __init__(
        self,
        *,
        loss: dict[str, Any] | None = None,
        auto_iou: str | float = 'mean',
        momentum: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.loss = self._build_inner(
            {'type': 'FocalLossX', 'gamma': 0.0, 'alpha': None} if loss is None else loss
        )
        self.sums_classes = self.loss.sums_classes
        if auto_iou != 'mean':
            if isinstance(auto_iou, str):
                wrong('auto_iou', "'mean' or a number in [0, 1]", auto_iou)
            check_number('auto_iou', auto_iou, 0, 1)
        self.auto_iou = auto_iou
        if check_number('momentum', momentum, 0, 1) == 1:
            wrong('momentum', 'below 1', momentum)
        self.momentum = momentum
        if auto_iou == 'mean':
            self.register_buffer('running', torch.tensor(MIN_MEAN_QUALITY))
        self._warned_of_hard_targets = False

    @staticmethod
    def _build_inner(config: dict[str, Any]) -> DenseClsLoss:
        if not isinstance(config, Mapping):
            wrong('loss', 'a config dict', config, TypeError)
        owned = sorted(set(OWNED_BY_OUTER) & set(config))
        if owned:
            wrong('loss', f'a config without {", ".join(owned)}, set on SlideLossX itself', config)
        inner = MODELS.build(dict(config))
        if not isinstance(inner, DenseClsLoss) or not inner.use_sigmoid:
            wrong('loss', 'the config of a sigmoid loss of this package', config)
        if isinstance(inner, SlideLossX):
            wrong('loss', 'a config of another loss than SlideLossX', config)
        return inner

    def check_classes(self, num_classes: int) -> None:
        self.loss.check_classes(num_classes)

    def observe(self, x: Tensor, checked: CheckedTarget) -> None:
        self.loss.observe(x, checked)
        quality = checked.positive_quality(x.shape[1])
        self._warn_of_hard_targets(quality)
        if self.auto_iou != 'mean' or not self.training:
            return
        positive = quality > 0
        total = torch.stack([quality.sum(), positive.sum().to(quality.dtype)])
        all_reduce(total)
        mean = total[0] / total[1].clamp(min=1)
        moved = self.momentum * self.running + (1 - self.momentum) * mean
        self.running.copy_(torch.where(total[1] > 0, moved, self.running))

    def _warn_of_hard_targets(self, quality: Tensor) -> None:
        if self._warned_of_hard_targets or not values_are_checked(quality):
            return
        if bool((quality == 1).any()) and bool(((quality == 0) | (quality == 1)).all()):
            self._warned_of_hard_targets = True
            warnings.warn(
                'SlideLossX: every quality is 0 or 1, so that all its weights are 1; it needs '
                "soft targets, as of a head with quality='iou'.",
                stacklevel=4,
            )

    def elementwise(self, x: Tensor, t: Target) -> Tensor:
        mean_quality = self.running if self.auto_iou == 'mean' else x.new_tensor(self.auto_iou)
        weight = slide_weight(t.quality, mean_quality.to(x.dtype).clamp(min=MIN_MEAN_QUALITY))
        return self.loss.elementwise(x, t) * weight
