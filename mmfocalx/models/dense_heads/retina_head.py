from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor

from .quality import QualityAwareHead

BACKGROUND_PRIOR = 0.99


@MODELS.register_module()
class RetinaHeadX(QualityAwareHead, RetinaHead):
    """RetinaNet's head with quality-aware classification targets.

    With softmax, the bias of the background channel starts so that every anchor is background
    with probability 0.99 (Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 3.3).

    Args: see :class:`QualityAwareHead` and mmdet's ``RetinaHead``.
    """

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        if not self.use_sigmoid_cls:
            odds = BACKGROUND_PRIOR / (1 - BACKGROUND_PRIOR)
            with torch.no_grad():
                bias = self.retina_cls.bias.view(-1, self.cls_out_channels)
                bias.zero_()
                bias[:, -1] = math.log(odds * self.num_classes)

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """mmdet's targets, with the number of positives averaged over all ranks."""
        labels, label_weights, box_targets, box_weights, num_pos, *rest = super().get_targets(
            *args, **kwargs
        )
        if get_world_size() > 1:
            num_pos = reduce_mean(label_weights[0].new_tensor(float(num_pos)))
        return (labels, label_weights, box_targets, box_weights, num_pos, *rest)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor | list[Tensor]]:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, num_anchors * channels, H, W) logits.
            bbox_preds: per level, (B, num_anchors * 4, H, W) box deltas.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information.
            batch_gt_instances_ignore: per image, the boxes to leave out.
        """
        if self.quality == 'none' and self.normalizer == 'num_pos':
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        anchors, valid_flags = self.get_anchors(
            [scores.shape[-2:] for scores in cls_scores],
            batch_img_metas,
            device=cls_scores[0].device,
        )
        *targets, num_pos = self.get_targets(
            anchors, valid_flags, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        labels, label_weights, box_targets, box_weights = (
            torch.cat(levels, dim=1).flatten(0, 1) for levels in targets
        )
        scores = _flatten(cls_scores, self.cls_out_channels)
        box_deltas = _flatten(bbox_preds, self.bbox_coder.encode_size)
        priors = cat_boxes([cat_boxes(levels) for levels in anchors])

        positive = ((labels >= 0) & (labels < self.num_classes)).nonzero().squeeze(1)
        boxes = self._decode(priors[positive], box_deltas[positive])
        target_boxes = box_targets[positive]
        if not self.reg_decoded_bbox:
            target_boxes = self._decode(priors[positive], target_boxes)
        target, score_sum = self.cls_target(labels, positive, boxes, target_boxes)
        loss_cls = self.loss_cls(
            scores, target, label_weights, avg_factor=self.cls_avg_factor(num_pos, score_sum)
        )

        if self.reg_decoded_bbox:
            box_deltas = get_box_tensor(self.bbox_coder.decode(priors, box_deltas))
        loss_bbox = self.loss_bbox(box_deltas, box_targets, box_weights, avg_factor=num_pos)
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)

    def _decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        boxes: Tensor = get_box_tensor(self.bbox_coder.decode(priors, deltas.detach().float()))
        return boxes


def _flatten(levels: list[Tensor], channels: int) -> Tensor:
    """(B, A * channels, H, W) per level to (B * anchors of all levels, channels)."""
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels], dim=1
    ).flatten(0, 1)
