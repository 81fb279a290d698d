from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.task_modules import ATSSAssigner
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList
from mmengine.registry import MODELS
from torch import Tensor

from mmfocalx.losses.checks import wrong

from .anchor_based import AnchorBasedHead, Metas, mean_over_ranks
from .box_loss import Losses
from .centerness import CenternessHead, centerness_of


@MODELS.register_module()
class ATSSHeadX(AnchorBasedHead, CenternessHead, ATSSHead):
    """ATSS's head with quality-aware classification targets.

    Adaptive training sample selection, Zhang et al. 2020, https://arxiv.org/abs/1912.02424. The
    targets of all images are computed at once where the assigner is an ``ATSSAssigner`` (without
    ``alpha``), the sampler a ``PseudoSampler``, the coder a ``DeltaXYWHBBoxCoder`` and the boxes
    are horizontal. Losses of this package, and losses of a quality, see all levels in one call.

    Args: see :class:`BatchedTargetsHead`, :class:`CenternessHead`, :class:`QualityAwareHead` and
        mmdet's ``ATSSHead``.

    Raises:
        ValueError: for ``reg_decoded_bbox=False``: the box loss of ATSS compares decoded boxes.
    """

    covered_assigner = ATSSAssigner
    centerness_branch = 'atss_centerness'
    min_centerness_sum = 1.0

    def __init__(self, *args: Any, reg_decoded_bbox: bool = True, **kwargs: Any) -> None:
        if reg_decoded_bbox is not True:
            wrong('reg_decoded_bbox', 'True, as the box loss compares boxes', reg_decoded_bbox)
        super().__init__(*args, **kwargs)

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
    ) -> tuple[Any, ...]:
        """mmdet's targets, with the number of positives averaged over all ranks.

        The arguments and what is returned are those of mmdet's ``ATSSHead``; the number of
        positives is a tensor.
        """
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if unmap_outputs:
            at_once = self.targets_at_once(anchor_list, valid_flag_list, *batch)
            if at_once is not None:
                return at_once
        *levels, num_pos = super().get_targets(anchor_list, valid_flag_list, *batch, unmap_outputs)
        return (*levels, mean_over_ranks(num_pos, levels[-1][0]))

    def centerness_target(self, anchors: Tensor, gts: Tensor) -> Tensor:
        """The centerness of anchors, (R,), given their (R, 4) boxes and those of the objects."""
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        return centerness_of(torch.cat([centres - gts[:, :2], gts[:, 2:] - centres], dim=1))

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if self.like_mmdet and not self.takes_batch(batch_gt_instances):
            outs = (cls_scores, bbox_preds, centernesses)
            return self.balanced(ATSSHead.loss_by_feat(self, *outs, *batch))
        matched = self.match(cls_scores, *batch)
        centerness = self.centerness_target(get_box_tensor(matched.priors), matched.boxes)
        matched = matched._replace(box_weights=matched.positives.only(centerness, 0))
        return self.losses_with_centerness(matched, cls_scores, bbox_preds, centernesses)
