from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.task_modules import MaxIoUAssigner
from mmdet.utils import InstanceList, OptInstanceList
from mmengine.registry import MODELS
from torch import Tensor

from .anchor_based import AnchorBasedHead, Metas, mean_over_ranks
from .box_loss import Losses

BACKGROUND_PRIOR = 0.99


@MODELS.register_module()
class RetinaHeadX(AnchorBasedHead, RetinaHead):
    """RetinaNet's head with quality-aware classification targets.

    The targets of all images are computed at once where the assigner is a ``MaxIoUAssigner``
    (without ``perm_repeat_gt_cfg``; ``gpu_assign_thr`` has no effect, since the memory is bounded
    anyway), the sampler a ``PseudoSampler``, the coder a ``DeltaXYWHBBoxCoder`` and the boxes are
    horizontal. Losses of this package, and losses of a quality, see all levels in one call.

    With softmax, the bias of the background channel starts so that every anchor is background
    with probability 0.99 (Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 3.3).

    Args: see :class:`BatchedTargetsHead`, :class:`QualityAwareHead` and mmdet's ``RetinaHead``.
    """

    covered_assigner = MaxIoUAssigner

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        if not self.use_sigmoid_cls:
            odds = BACKGROUND_PRIOR / (1 - BACKGROUND_PRIOR)
            with torch.no_grad():
                bias = self.retina_cls.bias.view(-1, self.cls_out_channels)
                bias.zero_()
                bias[:, -1] = math.log(odds * self.num_classes)

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple[Any, ...]:
        """mmdet's targets, with the number of positives averaged over all ranks.

        The arguments and what is returned are those of mmdet's ``AnchorHead``; the number of
        positives is a tensor. Sampling results come of mmdet's own way, image by image.
        """
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if unmap_outputs and not return_sampling_results:
            at_once = self.targets_at_once(anchor_list, valid_flag_list, *batch)
            if at_once is not None:
                _, *targets = at_once
                return tuple(targets)
        labels, label_weights, box_targets, box_weights, num_pos, *rest = super().get_targets(
            anchor_list, valid_flag_list, *batch, unmap_outputs, return_sampling_results
        )
        num_pos = mean_over_ranks(num_pos, label_weights[0])
        return (labels, label_weights, box_targets, box_weights, num_pos, *rest)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, num_anchors * channels, H, W) logits.
            bbox_preds: per level, (B, num_anchors * 4, H, W) box deltas.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information.
            batch_gt_instances_ignore: per image, the boxes to leave out.
        """
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if self.like_mmdet and not self.takes_batch(batch_gt_instances):
            return self.balanced(super().loss_by_feat(cls_scores, bbox_preds, *batch))
        return self.losses_of(self.match(cls_scores, *batch), cls_scores, bbox_preds)
