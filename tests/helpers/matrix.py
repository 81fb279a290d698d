"""Which loss fits which dense head of mmdet: what the tests run and docs/heads.md shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.matrix_detr_heads import DETR_HEADS
from helpers.matrix_head import ENTRIES, Head
from helpers.matrix_label_heads import LABEL_HEADS
from helpers.matrix_score_heads import SCORE_HEADS
from mmfocalx.losses import DenseClsLoss
from mmfocalx.losses.catalogue import classification_losses

HEADS = (*LABEL_HEADS, *SCORE_HEADS, *DETR_HEADS)


@dataclass(frozen=True)
class Loss:
    """A column of the matrix."""

    type: str
    softmax: bool = False

    @property
    def id(self) -> str:
        return self.type + ', softmax' * self.softmax

    @property
    def kind(self) -> type[DenseClsLoss]:
        return classification_losses()[self.type]

    @property
    def sums_classes(self) -> bool:
        return self.softmax or self.kind.sums_classes

    def config(self, head: Head) -> dict[str, Any]:
        """The config of the loss in a head's config."""
        config = self.kind.example_config(head.classes)
        return {**config, 'use_sigmoid': not self.softmax, **head.loss_args}


_KINDS = {
    name: loss
    for name, loss in classification_losses().items()
    if loss.__module__.startswith('mmfocalx.')
}
LOSSES = (
    *(Loss(name) for name in sorted(_KINDS, key=lambda name: _KINDS[name].quality_aware)),
    *(Loss(name, softmax=True) for name, loss in _KINDS.items() if loss.supports_softmax),
)


@dataclass(frozen=True)
class Outside:
    """A head that no loss of ours can serve, and how that shows.

    ``shows`` is 'no argument' (its constructor takes no ``loss_cls``), 'no call' (a step never
    calls it), 'TypeError' (a step raises it) or 'class_weight' (it reads that from the config of
    the loss).
    """

    type: str
    reason: str
    shows: str


HEATMAP = 'a heat map with its own loss, `loss_heatmap` or `loss_center_heatmap`'
OWN_LOSS = 'computes its classification loss itself, in probabilities, and never calls `loss_cls`'
CLASS_WEIGHT = "reads `class_weight` from the loss's config, the weight of the no-object class"
FIXED_SOFTMAX = 'softmax cross-entropy with hard negative mining is part of the head'
OUTSIDE = (
    Outside('SSDHead', FIXED_SOFTMAX, 'no argument'),
    Outside('PISASSDHead', FIXED_SOFTMAX, 'no argument'),
    Outside('CornerHead', HEATMAP, 'no argument'),
    Outside('CentripetalHead', HEATMAP, 'no argument'),
    Outside('CenterNetHead', HEATMAP, 'no argument'),
    Outside(
        'CenterNetUpdateHead',
        'calls `loss_cls` with `pos_inds` and `pos_labels`, the convention of GaussianFocalLoss',
        'TypeError',
    ),
    Outside('AutoAssignHead', OWN_LOSS, 'no call'),
    Outside('FreeAnchorRetinaHead', OWN_LOSS, 'no call'),
    Outside('MaskFormerHead', CLASS_WEIGHT, 'class_weight'),
    Outside('Mask2FormerHead', CLASS_WEIGHT, 'class_weight'),
)
NOT_RUN = {
    'ATSSVLFusionHead': 'needs the weights of a language model; calls its loss as GroundingDINOHead'
    ' does, with 1-D predictions',
    'BoxInstBboxHead': 'CondInstBboxHead under another name',
    'DecoupledSOLOLightHead': 'classifies as DecoupledSOLOHead',
    'RTMDetInsSepBNHead': 'classifies as RTMDetInsHead',
}


def misfit(head: Head, loss: Loss) -> str:
    """Why a loss does not fit a head; '' if it does."""
    if loss.softmax and head.softmax:
        return head.softmax
    if head.unreduced and loss.sums_classes == (head.unreduced == ENTRIES):
        given = '(N,)' if loss.sums_classes else '(N, C)'
        return f'the head needs {head.unreduced} from an unreduced loss, this one gives {given}'
    return ''


PAIRS = [(head, loss) for head in HEADS for loss in LOSSES]
FITTING = [pair for pair in PAIRS if not misfit(*pair)]
MISFITS = [pair for pair in PAIRS if misfit(*pair)]
WITH_BOXES = [head for head in HEADS if head.box_loss]
