from __future__ import annotations

from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import RepPointsHead
from mmdet.models.task_modules import MaxIoUAssigner, PointAssigner
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from mmengine.registry import MODELS
from torch import Tensor

from ..targets import (
    Anchors,
    BatchedTargetsHead,
    GridPoints,
    Kept,
    Matched,
    Outside,
    anchor_targets,
    outside_of,
    overridden,
    to,
    uncovered_assigner,
    uncovered_boxes,
)
from .anchor_based import Metas, mean_over_ranks
from .box_loss import Losses, box_loss
from .quality import QualityAwareHead, flatten

KEPT_SIZES, KEPT_SHAPES = 8, 64


class Grid(NamedTuple):
    """The P points of all levels of an image.

    Attributes:
        points: (P, 4) x, y and the level's stride in both directions.
        sizes: how many there are of each level.
        candidates: what the objects are matched with in the first stage.
    """

    points: Tensor
    sizes: tuple[int, ...]
    candidates: Anchors | GridPoints


@MODELS.register_module()
class RepPointsHeadX(BatchedTargetsHead, QualityAwareHead, RepPointsHead):
    """RepPoints's head with quality-aware classification targets.

    RepPoints, Yang et al. 2019, https://arxiv.org/abs/1904.11490. The quality is that of the box of
    the refined points, the one that the classification is about and that is detected, as in
    VarifocalNet's code; positives are those of the refinement, whose candidates are the boxes of
    the initial points. Losses of this package, and losses of a quality, see all levels in one
    call. Boxes are computed in single precision, with autocast too.

    The targets of all images are computed at once, and the host reads nothing of them, where the
    assigners are a ``PointAssigner`` or ``MaxIoUAssigner`` (for the refinement a
    ``MaxIoUAssigner``) and the sampler is a ``PseudoSampler``. Elsewhere mmdet's ``get_targets`` is
    called, whose assigners and sampler read on the host.

    Args: see :class:`BatchedTargetsHead`, :class:`QualityAwareHead` and mmdet's
        ``RepPointsHead``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grids = Kept(KEPT_SIZES)
        self._outside = Kept(KEPT_SHAPES)

    def _not_covered(self, objects: InstanceList) -> str | None:
        if type(self.sampler) is not PseudoSampler:
            return f'sampler={type(self.sampler).__name__}'
        return (
            overridden(self, ('get_points', 'get_targets', '_get_targets_single'))
            or uncovered_assigner(
                'init_assigner', self.init_assigner, (PointAssigner, MaxIoUAssigner)
            )
            or uncovered_assigner('refine_assigner', self.refine_assigner, (MaxIoUAssigner,))
            or uncovered_boxes(objects, box_types=False)
        )

    def get_targets(
        self,
        proposals_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
        stage: str = 'init',
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple[Any, ...]:
        """mmdet's targets, image by image, with the number of positives averaged over all ranks.

        The arguments and what is returned are those of mmdet's ``RepPointsHead``.
        """
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        labels, label_weights, boxes, proposals, weights, num_pos, *rest = super().get_targets(
            proposals_list, valid_flag_list, *batch, stage, unmap_outputs, return_sampling_results
        )
        num_pos = mean_over_ranks(num_pos, weights[0])
        return (labels, label_weights, boxes, proposals, weights, num_pos, *rest)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        pts_preds_init: list[Tensor],
        pts_preds_refine: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: Metas,
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, channels, H, W) logits.
            pts_preds_init: per level, (B, 2 * num_points, H, W) y and x of the initial points,
                in strides from the location.
            pts_preds_refine: the same of the refined points.
            batch_gt_instances: per image, the annotated ``bboxes`` and ``labels``.
            batch_img_metas: per image, its meta information.
            batch_gt_instances_ignore: per image, the boxes to leave out.
        """
        batch = (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if self.like_mmdet and not self.takes_batch(batch_gt_instances):
            outs = (cls_scores, pts_preds_init, pts_preds_refine)
            return self.balanced(super().loss_by_feat(*outs, *batch))
        init, refine = self.match(pts_preds_init, *batch)
        loss_init, _ = self._points_loss(self.loss_bbox_init, init, pts_preds_init)
        loss_refine, boxes = self._points_loss(self.loss_bbox_refine, refine, pts_preds_refine)
        loss_cls = self.cls_loss_of(refine, boxes, cls_scores)
        return self.balanced(
            dict(loss_cls=loss_cls, loss_pts_init=loss_init, loss_pts_refine=loss_refine)
        )

    def match(
        self,
        pts_preds_init: list[Tensor],
        objects: InstanceList,
        metas: Metas,
        ignored: OptInstanceList,
    ) -> tuple[Matched, Matched]:
        """What the initial and the refined points of a batch are matched with.

        Args:
            pts_preds_init: per level, (B, 2 * num_points, H, W), see :meth:`loss_by_feat`.
            objects: per image, the annotated ``bboxes`` and ``labels``.
            metas: per image, its meta information.
            ignored: per image, the boxes to leave out.
        """
        sizes = [tuple(level.shape[-2:]) for level in pts_preds_init]
        device = pts_preds_init[0].device
        grid = self._grid(sizes, device)
        proposals = self._boxes_of_all(grid, pts_preds_init)
        if not self.takes_batch(objects):
            return self._match_by_image(grid, proposals, sizes, objects, metas, ignored)
        outside = [self._points_outside(sizes, grid, meta) for meta in metas]
        candidates = [Anchors.of(boxes, grid.sizes) for boxes in proposals]
        stages = [
            anchor_targets(
                of_stage,
                outside,
                objects,
                ignored,
                assigner=getattr(self, f'{stage}_assigner'),
                num_classes=self.num_classes,
                pos_weight=self.train_cfg[stage]['pos_weight'],
            )
            for stage, of_stage in (
                ('init', [grid.candidates] * len(objects)),
                ('refine', candidates),
            )
        ]
        num_pos = reduce_mean(torch.stack([found.num_pos for found in stages]))
        points = grid.points.repeat(len(objects), 1)
        init, refine = (
            Matched(
                found.labels,
                found.positives,
                found.owners,
                points[found.positives.rows],
                found.boxes,
                found.positives.weight[:, None].expand(-1, 4),
                of_stage,
                found.label_weights,
            )
            for found, of_stage in zip(stages, num_pos.unbind(), strict=True)
        )
        return init, refine

    def _match_by_image(
        self,
        grid: Grid,
        proposals: Tensor,
        sizes: list[tuple[int, ...]],
        objects: InstanceList,
        metas: Metas,
        ignored: OptInstanceList,
    ) -> tuple[Matched, Matched]:
        """The same in mmdet's own way."""
        stages = []
        for stage in ('init', 'refine'):
            points, flags = self.get_points(sizes, metas, grid.points.device)
            candidates = points
            if stage == 'refine':
                candidates = [list(boxes.split(grid.sizes)) for boxes in proposals]
            elif not isinstance(self.init_assigner, PointAssigner):
                candidates = self.centers_to_bboxes(points)
            labels, label_weights, boxes, _, box_weights, num_pos = self.get_targets(
                candidates, flags, self.told_apart(objects), metas, ignored, stage=stage
            )
            labels, label_weights, boxes, box_weights = (
                torch.cat(levels, dim=1).flatten(0, 1)
                for levels in (labels, label_weights, boxes, box_weights)
            )
            labels, positives, owners = self.owners_of(labels, objects)
            stages.append(
                Matched(
                    labels,
                    positives,
                    owners,
                    grid.points.repeat(len(objects), 1)[positives.rows],
                    boxes[positives.rows],
                    box_weights[positives.rows],
                    num_pos,
                    label_weights,
                )
            )
        return stages[0], stages[1]

    def _points_loss(
        self, loss: Any, matched: Matched, pts_preds: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The loss of the boxes of points, and the (R, 4) boxes of the rows at hand, xyxy."""
        positives = matched.positives
        all_points = flatten(pts_preds, 2 * self.num_points)
        pred = positives.only(all_points[positives.rows], 1)
        boxes = self.decode(matched.priors, pred.float())
        target = positives.only(matched.boxes, 1)
        scale = self.point_base_scale * matched.priors[:, 2:3]
        value = box_loss(loss, boxes / scale, target / scale, matched.box_weights, matched.num_pos)
        # mmdet computes the loss of all points: one that is not finite shows in it.
        return value + 0 * all_points.sum(dtype=torch.float), boxes

    def decode(self, priors: Tensor, pred: Tensor) -> Tensor:
        """(R, 4) boxes, xyxy, of (R, 2 * num_points) points at (R, 4) x, y and strides."""
        # points2bbox takes no empty batch; a scale that it learns is to get its gradient of 0.
        some = pred if len(pred) else pred.new_ones(1, pred.shape[1])
        boxes: Tensor = self.points2bbox(some)[: len(pred)]
        return boxes * priors[:, 2:3] + priors[:, :2].repeat(1, 2)

    def _boxes_of_all(self, grid: Grid, pts_preds: list[Tensor]) -> Tensor:
        """(B, P, 4) boxes of the initial points, without gradient, in mmdet's arithmetic."""
        shifts = [
            self.points2bbox(level.detach().float()).flatten(2).transpose(1, 2)
            for level in pts_preds
        ]
        boxes = torch.cat(shifts, dim=1) * grid.points[:, 2:3] + grid.points[:, :2].repeat(1, 2)
        return boxes.detach()

    def _grid(self, sizes: list[tuple[int, ...]], device: torch.device) -> Grid:
        """The points of feature maps of some sizes; made on the CPU, where no check waits."""

        def make() -> Grid:
            levels = self.prior_generator.grid_priors(sizes, device='cpu', with_stride=True)
            lengths = tuple(len(level) for level in levels)
            points = to(torch.cat(levels), device)
            if isinstance(self.init_assigner, PointAssigner):
                of_points = GridPoints.of(points, lengths, self.point_strides)
                return Grid(points, lengths, of_points)
            boxes = to(torch.cat(*self.centers_to_bboxes([levels])), device)
            return Grid(points, lengths, Anchors.of(boxes, lengths))

        kept: Grid = self._grids.get((*sizes, device), make)
        return kept

    def _points_outside(
        self, sizes: list[tuple[int, ...]], grid: Grid, meta: dict[str, Any]
    ) -> Outside | None:
        """The points outside an image; None if none is."""
        device, pad_shape = grid.points.device, tuple(meta['pad_shape'][:2])

        def make() -> Outside | None:
            flags = self.prior_generator.valid_flags(sizes, pad_shape, 'cpu')
            return outside_of(torch.cat(flags), grid.sizes, device)

        kept: Outside | None = self._outside.get((*sizes, device, pad_shape), make)
        return kept
