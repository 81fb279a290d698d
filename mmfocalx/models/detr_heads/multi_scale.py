"""Heads of the descendants of DETR whose decoder looks at several feature maps."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import DDQDETRHead, DeformableDETRHead, DINOHead
from mmdet.utils import InstanceList
from mmengine.registry import MODELS
from torch import Tensor

from .query_head import Metas, QueryHead, QueryLosses


@MODELS.register_module()
class DeformableDETRHeadX(QueryHead, DeformableDETRHead):
    """Deformable DETR's head with quality-aware classification targets.

    Deformable DETR: deformable transformers for end-to-end object detection, Zhu et al. 2021,
    https://arxiv.org/abs/2010.04159. In two stages the encoder's proposals, which have one class,
    get qualities too.

    Args: see :class:`QueryHead` and mmdet's ``DeformableDETRHead``.
    """


class DenoisingHead(QueryHead):
    """Mixin of the heads that learn from noisy copies of the objects, too.

    The losses of denoising queries are computed on every rank, also on one without a box and so
    without such a query, where mmdet's head leaves the classification loss out. So a loss that
    keeps statistics over all ranks works here.

    Args:
        args: positional arguments of the head.
        kwargs: see :class:`QueryHead`.
    """

    replaced = (*QueryHead.replaced, 'get_dn_targets', '_get_dn_targets_single')

    def _loss_dn_single(
        self,
        dn_cls_scores: Tensor,
        dn_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        dn_meta: dict[str, int],
    ) -> QueryLosses:
        """The losses of the denoising queries of a decoder layer.

        Args:
            dn_cls_scores: (B, D, channels) logits.
            dn_bbox_preds: (B, D, 4) boxes in shares of the image, cxcywh.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information.
            dn_meta: the number of denoising queries, D, and of their groups. The first queries
                of a group were made from the objects of the image, in their order.
        """
        numbers = denoised(batch_gt_instances, **dn_meta)
        flat = dn_cls_scores.flatten(0, 1), dn_bbox_preds.flatten(0, 1)
        return self.losses_of(*flat, numbers, batch_gt_instances, batch_img_metas)


@MODELS.register_module()
class DINOHeadX(DenoisingHead, DINOHead):
    """DINO's head with quality-aware classification targets.

    DINO: DETR with improved denoising anchor boxes for end-to-end object detection, Zhang et al.
    2023, https://arxiv.org/abs/2203.03605.

    Args: see :class:`DenoisingHead` and mmdet's ``DINOHead``.
    """


@MODELS.register_module()
class DDQDETRHeadX(DenoisingHead, DDQDETRHead):
    """DDQ-DETR's head with quality-aware classification targets.

    Dense distinct query for end-to-end object detection, Zhang et al. 2023,
    https://arxiv.org/abs/2303.12776. The auxiliary loss of the dense queries stays as it is: its
    targets are qualities already. The host waits for it, and for the choice of distinct queries, as
    in mmdet.

    Args: see :class:`DenoisingHead` and mmdet's ``DDQDETRHead``.
    """

    cache_dict: dict[str, Any]

    def _loss_for_distinct_queries_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        l_id: int,
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
    ) -> QueryLosses:
        """The losses of the distinct queries of decoder layer ``l_id``."""
        scores, boxes = [*cls_scores], [*bbox_preds]
        if l_id > 0:
            distinct = self.cache_dict['distinct_query_mask'][l_id - 1]
            masks = distinct[:: self.cache_dict['num_heads'], 0]
            scores = [each[mask] for each, mask in zip(scores, masks, strict=True)]
            boxes = [each[mask] for each, mask in zip(boxes, masks, strict=True)]
        batch = (batch_gt_instances, batch_img_metas)
        numbers = self.match(scores, boxes, *batch)
        return self.losses_of(torch.cat(scores), torch.cat(boxes), numbers, *batch)


def denoised(
    objects: InstanceList, num_denoising_queries: int, num_denoising_groups: int, **_: Any
) -> list[Tensor]:
    """Per image, the number of the object that each denoising query was made from, see ``match``.

    Args:
        objects: per image, the annotated ``bboxes`` and ``labels``.
        num_denoising_queries: of an image.
        num_denoising_groups: each with the same number of queries.
    """
    in_group = num_denoising_queries // num_denoising_groups
    numbers, first = [], 1
    for image in objects:
        count = len(image.labels)
        number = image.labels.new_zeros(num_denoising_queries, dtype=torch.long)
        groups = number[: num_denoising_groups * in_group].view(num_denoising_groups, in_group)
        groups[:, :count] = torch.arange(first, first + count, device=number.device)
        numbers.append(number)
        first += count
    return numbers
