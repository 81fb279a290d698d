"""Heads of DETR and its descendants whose decoder looks at one feature map."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import ConditionalDETRHead, DABDETRHead, DETRHead
from mmengine.registry import MODELS

from .query_head import QueryHead


@MODELS.register_module()
class DETRHeadX(QueryHead, DETRHead):
    """DETR's head with quality-aware classification targets.

    End-to-end object detection with transformers, Carion et al. 2020,
    https://arxiv.org/abs/2005.12872. As in mmdet, the config of a softmax loss may give the weight
    of all classes, ``class_weight``, and that of the background, ``bg_cls_weight``, as numbers.

    Args:
        num_classes: number of classes, without the background.
        args: the other positional arguments of mmdet's ``DETRHead``.
        loss_cls: config of the classification loss; must spell ``use_sigmoid`` out.
        kwargs: see :class:`QueryHead` and mmdet's ``DETRHead``.
    """

    def __init__(
        self,
        num_classes: int,
        *args: Any,
        loss_cls: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        background = 0.0
        class_weight = (loss_cls or {}).get('class_weight')
        if loss_cls is not None and isinstance(class_weight, (int, float)):
            loss_cls = dict(loss_cls)
            background = loss_cls.pop('bg_cls_weight', class_weight)
            loss_cls['class_weight'] = [class_weight] * num_classes + [background]
        super().__init__(num_classes, *args, loss_cls=loss_cls, **kwargs)
        self.bg_cls_weight = background


@MODELS.register_module()
class ConditionalDETRHeadX(QueryHead, ConditionalDETRHead):
    """Conditional DETR's head with quality-aware classification targets.

    Conditional DETR for fast training convergence, Meng et al. 2021,
    https://arxiv.org/abs/2108.06152.

    Args: see :class:`QueryHead` and mmdet's ``ConditionalDETRHead``.
    """


@MODELS.register_module()
class DABDETRHeadX(QueryHead, DABDETRHead):
    """DAB-DETR's head with quality-aware classification targets.

    DAB-DETR: dynamic anchor boxes are better queries for DETR, Liu et al. 2022,
    https://arxiv.org/abs/2201.12329.

    Args: see :class:`QueryHead` and mmdet's ``DABDETRHead``.
    """
