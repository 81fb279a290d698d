from __future__ import annotations

import warnings
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.registry import MODELS
from torch import Tensor

from .batch import Batch, Target, plain_values, values_are_checked
from .checks import check_number, wrong
from .one_pass.elementary import Elementary
from .outer import OuterLoss
from .state import FormerStates, is_transformed, refuse_heads_with_uneven_calls, unwrapped

MIN_MEAN_QUALITY = 0.2
EXAMPLE_MEAN_QUALITY = 0.45


@MODELS.register_module()
class SlideLossX(OuterLoss):
    r"""Weighs another sigmoid loss by how close the quality of an entry is to the mean.

    Slide loss, Yu et al. 2022 (YOLO-FaceV2), https://arxiv.org/abs/2208.02019, eq. 1: the inner
    loss times

    .. math::
        1 \text{ if } y \le \mu - 0.1, \quad e^{1-\mu} \text{ if } \mu - 0.1 < y < \mu, \quad
        e^{1-y} \text{ if } y \ge \mu

    with the mean quality :math:`\mu` of the positives of a call: of all levels where the head
    makes one call, as RetinaHeadX does; of one level where it makes one for each, as GFLHead does;
    and of one micro-batch where gradients are accumulated over several.

    The running mean moves once for each call in training. Activation checkpointing may repeat the
    call; transforms of torch.func read the mean as in evaluation; and a call that overrides the
    reduction with 'none' averages over its own positives, on its own rank, and keeps nothing.

    Args:
        loss: config of the weighed loss, without the settings that belong to this one; None
            for binary cross-entropy.
        auto_iou: the mean quality: 'mean' for that of the positives over all ranks, or a
            number in [0, 1]. Never below 0.2. With 'mean' every rank has to make the same calls:
            heads that leave some out on a rank without boxes, YOLOXHead and mmdet's family of
            DINOHead (not DINOHeadX), are refused when they are built under several ranks.
        momentum: share in [0, 1) of the running mean that a new one leaves in place.
        kwargs: see :class:`DenseClsLoss`.

    Attributes:
        running: 0-d buffer, the running mean quality; only with ``auto_iou='mean'``.
        mean_quality: 0-d, the running mean that the latest forward has read; likewise.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.

    Example:
        >>> import torch
        >>> from mmfocalx.losses import SlideLossX
        >>> labels, quality = torch.tensor([0, 1]), torch.tensor([0.5, 0.0])
        >>> loss = SlideLossX(auto_iou=0.5)  # of binary cross-entropy; e^(1/2) ln 2 and ln 2
        >>> loss(torch.zeros(2, 1), (labels, quality), reduction_override='none')
        tensor([[1.1428],
                [0.6931]])
    """

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
        super().__init__(loss=loss, **kwargs)
        if auto_iou != 'mean':
            if isinstance(auto_iou, str):
                wrong('auto_iou', "'mean' or a number in [0, 1]", auto_iou)
            check_number('auto_iou', auto_iou, low=0, high=1)
        self.auto_iou = auto_iou
        self.momentum = check_number('momentum', momentum, low=0, below=1)
        if auto_iou == 'mean':
            self.register_buffer('running', torch.tensor(MIN_MEAN_QUALITY))
            self.mean_quality = torch.tensor(MIN_MEAN_QUALITY)
            self._former = FormerStates()
            refuse_heads_with_uneven_calls(
                self, 'A number as `auto_iou` of SlideLossX works in every head.'
            )
        self._warned_of_hard_targets = False

    def example_states(self) -> dict[str, dict[str, float]]:
        own: dict[str, dict[str, float]] = {'': {}}
        if self.auto_iou == 'mean':
            own = {f'μ = {EXAMPLE_MEAN_QUALITY:g}': {'running': EXAMPLE_MEAN_QUALITY}}
        return {
            ', '.join(filter(None, (name, inner_name))): {
                **buffers,
                **{f'loss.{path}': value for path, value in inner_buffers.items()},
            }
            for name, buffers in own.items()
            for inner_name, inner_buffers in self.loss.example_states().items()
        }

    def update_state(self, batch: Batch, counts: bool) -> None:
        super().update_state(batch, counts)
        quality = batch.positive_quality()
        self._warn_of_hard_targets(quality)
        if self.auto_iou != 'mean':
            return
        former = self._former.of(batch)
        if former is not None:
            self.mean_quality = former
        elif not self.training or is_transformed():
            self.mean_quality = unwrapped(self.running.clone())
        else:
            self.mean_quality = self._moved(quality, counts)
            self._former.keep(batch, self.mean_quality)
            if counts:
                self.running.copy_(self.mean_quality)

    def _moved(self, quality: Tensor, over_ranks: bool) -> Tensor:
        """The running mean after a call."""
        positive = quality > 0
        total = torch.stack([quality.sum(), positive.sum().to(quality.dtype)])
        if over_ranks:
            all_reduce(total)
        mean = total[0] / total[1].clamp(min=1)
        moved = self.momentum * self.running + (1 - self.momentum) * mean
        return torch.where(total[1] > 0, moved, self.running).to(self.running.dtype)

    def _warn_of_hard_targets(self, quality: Tensor) -> None:
        if self._warned_of_hard_targets or not values_are_checked(quality):
            return
        quality = plain_values(quality)
        if bool((quality == 1).any()) and bool(((quality == 0) | (quality == 1)).all()):
            self._warned_of_hard_targets = True
            warnings.warn(
                'SlideLossX: every quality is 0 or 1, so that all its weights are 1; it needs '
                "soft targets, as of a head with quality='iou'.",
                stacklevel=4,
            )

    def elementwise(self, x: Tensor, t: Target, f: Elementary) -> Tensor:
        mean: float | Tensor
        if self.auto_iou == 'mean':
            mean = self.mean_quality.to(x.dtype).clamp(min=MIN_MEAN_QUALITY)
        else:
            mean = max(float(self.auto_iou), MIN_MEAN_QUALITY)
        near = t.quality.clamp(min=mean)
        weight = torch.where(t.quality <= mean - 0.1, 1.0, (1 - near).exp())
        return self.loss.elementwise(x, t, f) * weight
