"""The base of the losses around another loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from .base import DenseClsLoss
from .batch import Batch
from .checks import wrong

OWNED_BY_OUTER = (
    'activated', 'fused', 'ignore_index', 'label_smoothing', 'loss_weight', 'ohem_ratio',
    'reduction',
)  # fmt: skip


class OuterLoss(DenseClsLoss):
    """Builds the inner loss and lets it keep its own state.

    Args:
        loss: config of a sigmoid loss of this package that computes each prediction by itself,
            without the settings that belong to the outer loss; None for binary cross-entropy.
        kwargs: see :class:`DenseClsLoss`.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it.
    """

    quality_aware = True

    def __init__(self, *, loss: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        bce = {'type': 'FocalLossX', 'gamma': 0.0, 'alpha': None}
        self.loss = self._build_inner(bce if loss is None else loss)
        self.sums_classes = self.loss.sums_classes

    def _build_inner(self, config: dict[str, Any]) -> DenseClsLoss:
        own = type(self).__name__
        if not isinstance(config, Mapping):
            wrong('loss', 'a config dict', config, TypeError)
        owned = sorted(set(OWNED_BY_OUTER) & set(config))
        if owned:
            wrong('loss', f'a config without {", ".join(owned)}, set on {own} itself', config)
        inner = MODELS.build(dict(config))
        if not isinstance(inner, DenseClsLoss) or not inner.use_sigmoid:
            wrong('loss', 'the config of a sigmoid loss of this package', config)
        if isinstance(inner, type(self)):
            wrong('loss', f'a config of another loss than {own}', config)
        if inner.needs_whole_batch:
            wrong('loss', 'a config of a loss that computes each prediction by itself', config)
        return inner

    def check_classes(self, num_classes: int) -> None:
        self.loss.check_classes(num_classes)

    def update_state(self, batch: Batch, counts: bool) -> None:
        self.loss.update_state(batch, counts)

    def keeps_gradient_statistics(self, batch: Batch) -> bool:
        return self.loss.keeps_gradient_statistics(batch)

    def gradient_statistics(self, batch: Batch, gradient: Tensor) -> Tensor:
        return self.loss.gradient_statistics(batch, gradient)

    def update_gradient_statistics(self, statistics: Tensor) -> None:
        self.loss.update_gradient_statistics(statistics)
