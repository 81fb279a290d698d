"""What FCOS's and ATSS's heads share: a branch for centerness that they can do without."""

from __future__ import annotations

from typing import Any

from mmdet.utils import InstanceList, OptInstanceList, reduce_mean
from torch import Tensor, nn

from mmfocalx.losses.checks import check_bool

from ..targets import Matched
from .box_loss import Losses
from .quality import QualityAwareHead, flatten


class NoCenterness(nn.Module):
    """Stands where the centerness branch was dropped."""

    def forward(self, x: Tensor) -> None:
        return None


class CenternessHead(QualityAwareHead):
    """Mixin of the heads that weigh the box loss of a prediction by its centerness.

    Args:
        args: positional arguments of the head.
        centerness: whether the head has its centerness branch. Without it, the branch, its
            loss and its factor at inference are dropped: the class score alone ranks. The box
            loss is weighted by the centerness of its location either way.
        kwargs: see :class:`QualityAwareHead`.

    Raises:
        TypeError: if ``centerness`` is no bool.
    """

    centerness_branch: str
    """Name of the layer that predicts the centerness."""
    min_centerness_sum: float
    """The least that the box loss is divided by."""
    loss_centerness: Any
    looks_at_every_box = False

    def __init__(self, *args: Any, centerness: bool = True, **kwargs: Any) -> None:
        self.centerness = check_bool('centerness', centerness)
        super().__init__(*args, **kwargs)

    @property
    def like_mmdet(self) -> bool:
        return self.centerness and super().like_mmdet

    def _init_layers(self) -> None:
        super()._init_layers()  # type: ignore[misc]
        if not self.centerness:
            setattr(self, self.centerness_branch, NoCenterness())

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Per level: class scores, box predictions and, where it has the branch, centerness."""
        outs: tuple[list[Tensor], ...] = super().forward(x)  # type: ignore[misc]
        return outs if self.centerness else outs[:2]

    def loss_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, **kwargs: Any
    ) -> Losses:
        """The losses of a batch.

        Args:
            cls_scores: per level, (B, num_anchors * channels, H, W) logits.
            bbox_preds: per level, (B, num_anchors * 4, H, W) distances or deltas.
            args: ``centernesses``, per level (B, num_anchors, H, W) logits, if the head has the
                branch; then, as in mmdet, ``batch_gt_instances``, ``batch_img_metas`` and
                ``batch_gt_instances_ignore``.
            kwargs: the same by name.
        """
        if self.centerness:
            return self._losses(cls_scores, bbox_preds, *args, **kwargs)
        return self._losses(cls_scores, bbox_preds, None, *args, **kwargs)

    def _losses(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> Losses:
        raise NotImplementedError

    def losses_with_centerness(
        self,
        matched: Matched,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        centernesses: list[Tensor] | None,
    ) -> Losses:
        """The losses, given what the predictions are matched with; box weights are centerness."""
        losses = self.losses_of(matched, cls_scores, bbox_preds)
        if centernesses is not None:
            positives = matched.positives
            losses['loss_centerness'] = self.loss_centerness(
                positives.only(flatten(centernesses, 1)[positives.rows, 0], 0),
                matched.box_weights,
                positives.weight,
                avg_factor=matched.num_pos,
            )
        return losses

    def box_avg_factor(self, matched: Matched) -> Tensor:
        return reduce_mean(matched.box_weights.sum()).clamp(min=self.min_centerness_sum)


def centerness_of(distances: Tensor) -> Tensor:
    """(R,) centerness of places, given their (R, 4) distances to the sides of a box."""
    sides = distances.view(-1, 2, 2)  # left, top; right, bottom
    ratio = sides.amin(dim=1) / sides.amax(dim=1)
    return (ratio[:, 0] * ratio[:, 1]).sqrt()
