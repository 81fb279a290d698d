"""What the heads of the DETR family share: the losses of a set of queries."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmdet.utils import InstanceList, reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from mmfocalx.losses import DenseClsLoss

from ..dense_heads.box_loss import box_loss
from ..dense_heads.quality_scores import QualityScores
from ..targets import Owners, Positives, boxes_by_number, labels_by_number, overridden

Metas = list[dict[str, Any]]
QueryLosses = tuple[Tensor, Tensor, Tensor]
"""Losses of the classes, of the coordinates of the boxes and of their overlaps."""


class QueryHead(QualityScores):
    """Mixin of the heads that match their queries with objects.

    As in mmdet, the losses are computed once for each decoder layer, the encoder's proposals and
    the denoising queries of each layer; the qualities are divided, and the box losses balanced,
    within each of them. With ``quality_scale='object'`` the best of all denoising queries that
    were made from an object, whatever their group, gets 1. Where the assigner matches one query
    with each object, as the ``HungarianAssigner`` does, every matched query gets 1.

    The quality equals that which mmdet's heads hand to mmdet's own ``QualityFocalLoss``, but for
    boxes of less than a millionth of the image: theirs shrinks, as they divide areas of a unit
    image by 1e-6 at least; here areas are in pixels.

    The host waits for what mmdet solves on the CPU, the matching of each image, and for nothing
    else of its own.

    Args:
        args: positional arguments of the head.
        kwargs: see :class:`QualityScores`.

    Raises:
        TypeError: for a subclass that overrides the targets of mmdet's head, which are not used;
            :meth:`match` is what to override.
    """

    replaced: tuple[str, ...] = ('get_targets', '_get_targets_single')
    """Methods of mmdet's head that are not called."""
    calls_its_loss_on_every_rank = True
    num_classes: int
    assigner: Any
    loss_bbox: Any
    loss_iou: Any
    bg_cls_weight: float
    sync_cls_avg_factor: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        unused = overridden(self, self.replaced)
        if unused is not None:
            raise TypeError(
                f'Expected the targets of a subclass of {QueryHead.__name__} in `match`, but it '
                f'has {unused}, which is not called'
            )
        super().__init__(*args, **kwargs)

    def loss_by_feat_single(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
    ) -> QueryLosses:
        """The losses of the queries of a decoder layer, or of the encoder's proposals.

        Args:
            cls_scores: (B, Q, channels) logits.
            bbox_preds: (B, Q, 4) boxes in shares of the image, cxcywh.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information.
        """
        batch = (batch_gt_instances, batch_img_metas)
        numbers = self.match([*cls_scores], [*bbox_preds], *batch)
        return self.losses_of(cls_scores.flatten(0, 1), bbox_preds.flatten(0, 1), numbers, *batch)

    @torch.no_grad()
    def match(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        objects: InstanceList,
        metas: Metas,
    ) -> list[Tensor]:
        """Per image, (Q,) number of each query's object, counted from 1 over all images; else 0.

        Args:
            cls_scores: per image, (Q, channels) logits.
            bbox_preds: per image, (Q, 4) boxes in shares of the image, cxcywh.
            objects: per image, the annotated ``bboxes`` and ``labels``.
            metas: per image, its meta information.
        """
        numbers, before = [], 0
        sides = image_sides(metas, bbox_preds[0])
        for scores, boxes, size, image, meta in zip(
            cls_scores, bbox_preds, sides, objects, metas, strict=True
        ):
            queries = InstanceData(
                scores=scores.detach(), bboxes=bbox_cxcywh_to_xyxy(boxes.detach()) * size
            )
            found = self.assigner.assign(
                pred_instances=queries, gt_instances=image, img_meta=meta
            ).gt_inds
            numbers.append(torch.where(found > 0, found + before, 0))
            before += len(image.labels)
        return numbers

    def losses_of(
        self,
        cls_scores: Tensor,
        bbox_preds: Tensor,
        numbers: list[Tensor],
        objects: InstanceList,
        metas: Metas,
    ) -> QueryLosses:
        """The losses of N queries, image after image.

        Args:
            cls_scores: (N, channels) logits.
            bbox_preds: (N, 4) boxes in shares of their image, cxcywh.
            numbers: per image, the numbers of its queries' objects, see :meth:`match`.
            objects: per image, the annotated ``bboxes`` and ``labels``.
            metas: per image, its meta information.
        """
        number = torch.cat(numbers)
        positives = Positives.of(number > 0)
        rows = positives.rows
        image = torch.cat([each.new_full(each.shape, i) for i, each in enumerate(numbers)])[rows]
        sides = image_sides(metas, objects[0].bboxes)[image]
        targets = bbox_xyxy_to_cxcywh(boxes_by_number(objects)[number[rows]] / sides)
        pred, targets = (positives.only(each, 1) for each in (bbox_preds[rows].float(), targets))
        boxes, target_boxes = (bbox_cxcywh_to_xyxy(each) * sides for each in (pred, targets))

        labels = labels_by_number(objects, self.num_classes)[number]
        target: Tensor | tuple[Tensor, Tensor] = labels
        if self.quality != 'none':
            owners = Owners(number[rows], tuple(len(each.labels) for each in objects), image)
            target = labels, self.scores_of(boxes, target_boxes, positives, owners)
        cls_divisor, box_divisor = self._divisors(positives)
        loss_cls = self._loss_cls(cls_scores, target, cls_divisor)

        weights = positives.weight[:, None].expand(-1, 4)
        loss_iou = box_loss(self.loss_iou, boxes, target_boxes, weights, box_divisor)
        loss_bbox = box_loss(self.loss_bbox, pred, targets, weights, box_divisor)
        # A prediction that is not finite shows in the loss.
        loss_bbox = loss_bbox + 0 * bbox_preds.sum(dtype=torch.float)
        losses = self.balanced(dict(loss_cls=loss_cls, loss_bbox=loss_bbox, loss_iou=loss_iou))
        return losses['loss_cls'], losses['loss_bbox'], losses['loss_iou']  # type: ignore[return-value]

    def _divisors(self, positives: Positives) -> tuple[Tensor, Tensor]:
        """What the classification loss and the box losses are divided by, as in mmdet."""
        num_pos = positives.count
        counted = num_pos + (len(positives.mask) - num_pos) * self.bg_cls_weight
        here = torch.stack([counted, num_pos])
        over_ranks = reduce_mean(here)
        cls_divisor = over_ranks[0] if self.sync_cls_avg_factor else here[0]
        return cls_divisor.clamp(min=1), over_ranks[1].clamp(min=1)

    def _loss_cls(
        self, scores: Tensor, target: Tensor | tuple[Tensor, Tensor], divisor: Tensor
    ) -> Tensor:
        """The classification loss, without a call of another library's for no queries."""
        if not len(scores) and not isinstance(self.loss_cls, DenseClsLoss):
            return 0 * scores.sum(dtype=torch.float)
        loss: Tensor = self.loss_cls(scores, target, avg_factor=divisor)
        return loss


def image_sides(metas: Metas, like: Tensor) -> Tensor:
    """(B, 4) width, height, width, height of each image in pixels."""
    shapes = [meta['img_shape'][:2] for meta in metas]
    return like.new_tensor([(width, height) * 2 for height, width in shapes])
