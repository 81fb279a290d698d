from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor

from mmfocalx.losses import DenseClsLoss

from ..targets import (
    AnchorTargets,
    BatchedTargetsHead,
    KeptPriors,
    Owners,
    Positives,
    anchor_targets,
    decode_deltas,
    encode_deltas,
    overridden,
    penalty,
    uncovered_anchor_settings,
    uncovered_boxes,
)
from .box_loss import box_loss
from .quality import Losses, QualityAwareHead

BACKGROUND_PRIOR = 0.99
Sizes = list[torch.Size]


class _Targets(NamedTuple):
    """What the losses need of the N = B * A anchors of a batch, R of them at hand."""

    labels: Tensor  # (N,)
    label_weights: Tensor  # (N,)
    positives: Positives
    priors: Tensor  # (R, 4)
    boxes: Tensor  # (R, 4)
    deltas: Tensor  # (R, 4)
    box_weights: Tensor  # (R, 4)
    owners: Owners
    num_pos: float | Tensor


@MODELS.register_module()
class RetinaHeadX(BatchedTargetsHead, QualityAwareHead, RetinaHead):
    """RetinaNet's head with quality-aware classification targets.

    The targets of all images are computed at once where the assigner is a ``MaxIoUAssigner``
    (without ``perm_repeat_gt_cfg``; ``gpu_assign_thr`` has no effect, since the memory is bounded
    anyway), the sampler a ``PseudoSampler``, the coder a ``DeltaXYWHBBoxCoder`` and the boxes are
    horizontal. Losses of this package, and losses of a quality, see all levels in one call.

    With softmax, the bias of the background channel starts so that every anchor is background
    with probability 0.99 (Lin et al. 2017, https://arxiv.org/abs/1708.02002, section 3.3).

    Args: see :class:`BatchedTargetsHead`, :class:`QualityAwareHead` and mmdet's ``RetinaHead``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept_priors = KeptPriors()

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        if not self.use_sigmoid_cls:
            odds = BACKGROUND_PRIOR / (1 - BACKGROUND_PRIOR)
            with torch.no_grad():
                bias = self.retina_cls.bias.view(-1, self.cls_out_channels)
                bias.zero_()
                bias[:, -1] = math.log(odds * self.num_classes)

    def _not_covered(self, objects: InstanceList) -> str | None:
        replaced = overridden(
            self, RetinaHeadX, ('get_anchors', 'get_targets', '_get_targets_single')
        )
        replaced = replaced or uncovered_anchor_settings(self)
        return replaced or uncovered_boxes(objects, box_types=True)

    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple[Any, ...]:
        """mmdet's targets, with the number of positives averaged over all ranks.

        The arguments and what is returned are those of mmdet's ``AnchorHead``; the number of
        positives is a tensor. Sampling results come of mmdet's own way, image by image.
        """
        covered = unmap_outputs and not return_sampling_results
        covered = covered and all(levels is anchor_list[0] for levels in anchor_list)
        if covered and self.takes_batch(batch_gt_instances):
            priors = get_box_tensor(cat_boxes(anchor_list[0]))
            border = self.train_cfg['allowed_border']
            outside = [
                penalty(
                    anchor_inside_flags(priors, torch.cat(flags), meta['img_shape'][:2], border),
                    priors.device,
                )
                for flags, meta in zip(valid_flag_list, batch_img_metas, strict=True)
            ]
            targets = self._at_once(priors, outside, batch_gt_instances, batch_gt_instances_ignore)
            return self._by_level(targets, priors, [len(level) for level in anchor_list[0]])
        labels, label_weights, box_targets, box_weights, num_pos, *rest = super().get_targets(
            anchor_list,
            valid_flag_list,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore,
            unmap_outputs,
            return_sampling_results,
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
        sizes = [scores.shape[-2:] for scores in cls_scores]
        if self.takes_batch(batch_gt_instances):
            targets = self._batched_targets(sizes, cls_scores[0].device, *batch)
        elif self.quality == 'none' and self.normalizer == 'num_pos':
            return self.balanced(super().loss_by_feat(cls_scores, bbox_preds, *batch))
        else:
            targets = self._targets_image_by_image(sizes, cls_scores[0].device, *batch)
        deltas = _flatten(bbox_preds, self.bbox_coder.encode_size)
        return self.balanced(self._losses(cls_scores, deltas, targets))

    def _losses(self, cls_scores: list[Tensor], deltas: Tensor, targets: _Targets) -> Losses:
        positives, num_pos = targets.positives, targets.num_pos
        pred, box_targets = deltas[positives.rows], targets.deltas
        boxes = None
        if self.reg_decoded_bbox:
            pred, box_targets = self._decode(targets.priors, pred.float()), targets.boxes
            boxes = pred.detach()
        elif self.quality != 'none':
            boxes = self._decode(targets.priors, pred.detach().float())
        target, score_sum = self.cls_target(
            targets.labels, positives, boxes, targets.boxes, targets.owners
        )
        avg_factor = self.cls_avg_factor(num_pos, score_sum)
        loss_cls = self._loss_cls(cls_scores, target, targets.label_weights, avg_factor)
        loss_bbox = box_loss(
            self.loss_bbox, pred, positives.only(box_targets, 0), targets.box_weights, num_pos
        )
        # A prediction that is not finite shows in the loss, wherever it is, as in mmdet.
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox + 0 * deltas.sum(dtype=torch.float))

    def _loss_cls(
        self,
        cls_scores: list[Tensor],
        target: Tensor | tuple[Tensor, Tensor],
        weights: Tensor,
        avg_factor: float | Tensor,
    ) -> Tensor | list[Tensor]:
        """The loss of all levels at once; of each level, as in mmdet, for other losses on labels.

        mmdet's losses on labels take longer for one large call than for a few small ones.
        """
        channels = self.cls_out_channels
        if isinstance(self.loss_cls, DenseClsLoss) or isinstance(target, tuple):
            scores = _flatten(cls_scores, channels)
            return self.loss_cls(scores, target, weights, avg_factor=avg_factor)
        levels = [_flatten([level], channels) for level in cls_scores]
        images = len(cls_scores[0])
        sizes = [len(level) // images for level in levels]
        labels, label_weights = (
            values.view(images, -1).split(sizes, dim=1) for values in (target, weights)
        )
        return [
            self.loss_cls(scores, of_level.flatten(), its.flatten(), avg_factor=avg_factor)
            for scores, of_level, its in zip(levels, labels, label_weights, strict=True)
        ]

    def _batched_targets(
        self,
        sizes: Sizes,
        device: torch.device,
        objects: InstanceList,
        metas: list[dict[str, Any]],
        ignored: OptInstanceList,
    ) -> _Targets:
        priors, columns = self._kept_priors.priors(self.prior_generator, sizes, device)
        border = self.train_cfg['allowed_border']
        outside = [self._kept_priors.outside(sizes, device, meta, border) for meta in metas]
        found = self._at_once(priors, outside, objects, ignored, columns)
        at_hand = _repeated(priors, len(objects), found.positives)
        deltas = found.boxes
        if not self.reg_decoded_bbox:
            deltas = encode_deltas(at_hand, found.boxes, self.bbox_coder)
        labels, label_weights, positives, boxes, owners, num_pos = found
        weights = positives.weight[:, None].expand(-1, 4)
        return _Targets(
            labels, label_weights, positives, at_hand, boxes, deltas, weights, owners, num_pos
        )

    def _targets_image_by_image(
        self,
        sizes: Sizes,
        device: torch.device,
        objects: InstanceList,
        metas: list[dict[str, Any]],
        ignored: OptInstanceList,
    ) -> _Targets:
        anchors, valid_flags = self.get_anchors(sizes, metas, device=device)
        *levels, num_pos = self.get_targets(
            anchors, valid_flags, self.told_apart(objects), metas, ignored
        )
        labels, label_weights, box_targets, box_weights = (
            torch.cat(level, dim=1).flatten(0, 1) for level in levels
        )
        labels, positives, owners = self.owners_of(labels, objects)
        priors = cat_boxes([cat_boxes(image) for image in anchors])[positives.rows]
        deltas = boxes = box_targets[positives.rows]
        if not self.reg_decoded_bbox:
            boxes = self._decode(priors, deltas)
        weights = box_weights[positives.rows]
        return _Targets(
            labels, label_weights, positives, priors, boxes, deltas, weights, owners, num_pos
        )

    def _at_once(
        self,
        priors: Tensor,
        outside: list[Tensor | None],
        objects: InstanceList,
        ignored: OptInstanceList,
        columns: tuple[Tensor, ...] | None = None,
    ) -> AnchorTargets:
        targets = anchor_targets(
            priors,
            outside,
            objects,
            ignored,
            assigner=self.assigner,
            num_classes=self.num_classes,
            pos_weight=self.train_cfg['pos_weight'],
            columns=columns,
        )
        return targets._replace(num_pos=reduce_mean(targets.num_pos))

    def _by_level(
        self, targets: AnchorTargets, priors: Tensor, sizes: list[int]
    ) -> tuple[Any, ...]:
        """Targets as mmdet's ``get_targets`` returns them, per level of ``sizes`` anchors."""
        positives = targets.positives
        images = len(targets.labels) // len(priors)
        boxes = targets.boxes
        if not self.reg_decoded_bbox:
            boxes = encode_deltas(_repeated(priors, images, positives), boxes, self.bbox_coder)
        weights = positives.mask.float()[:, None].expand(-1, 4)
        per_anchor = (targets.labels, targets.label_weights, positives.spread(boxes), weights)
        levels = [
            list(values.view(images, len(priors), *values.shape[1:]).split(sizes, dim=1))
            for values in per_anchor
        ]
        return (*levels, targets.num_pos)

    def _decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        if type(self.bbox_coder) is DeltaXYWHBBoxCoder:
            return decode_deltas(get_box_tensor(priors), deltas, self.bbox_coder)
        boxes: Tensor = get_box_tensor(self.bbox_coder.decode(priors, deltas))
        return boxes


def _repeated(priors: Tensor, images: int, positives: Positives) -> Tensor:
    """(R, 4) priors of the rows at hand, given the (A, 4) priors of each image."""
    if isinstance(positives.rows, Tensor):
        return priors[positives.rows % len(priors)]
    return priors.repeat(images, 1)


def _flatten(levels: list[Tensor], channels: int) -> Tensor:
    """(B, A * channels, H, W) per level to (B * anchors of all levels, channels)."""
    flat = [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in levels]
    return (flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)).flatten(0, 1)
