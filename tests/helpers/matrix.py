"""Which loss fits which dense head of mmdet.

``PYTHONPATH=tests python -m matrix`` writes docs/heads.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmfocalx.losses
from helpers.matrix_detr_heads import DETR_HEADS
from helpers.matrix_head import DENSE, ENTRIES, LABELS, QUALITY, Head
from helpers.matrix_label_heads import LABEL_HEADS
from helpers.matrix_score_heads import SCORE_HEADS

HEADS = (*LABEL_HEADS, *SCORE_HEADS, *DETR_HEADS)
PAGE = Path(__file__).parents[2] / 'docs' / 'heads.md'


@dataclass(frozen=True)
class Loss:
    """A column of the matrix."""

    type: str
    args: dict[str, Any] = field(default_factory=dict)
    quality_aware: bool = False

    @property
    def softmax(self) -> bool:
        return self.args.get('use_sigmoid') is False

    @property
    def id(self) -> str:
        return self.type + (', softmax' if self.softmax else '')

    @property
    def sums_classes(self) -> bool:
        return self.softmax or getattr(mmfocalx.losses, self.type).sums_classes

    def config(self, head: Head) -> dict[str, Any]:
        """The config of the loss in a head's config."""
        own = {'num_classes': head.classes} if self.type == 'EqualizedFocalLossX' else {}
        return {'type': self.type, 'use_sigmoid': True, **own, **self.args, **head.loss_args}


LOSSES = (
    Loss('FocalLossX'),
    Loss('PolyFocalLossX'),
    Loss('AsymmetricLossX'),
    Loss('EqualizedFocalLossX'),
    Loss('VarifocalLossX', quality_aware=True),
    Loss('QualityFocalLossX', quality_aware=True),
    Loss('SlideLossX', quality_aware=True),
    Loss('MALossX', quality_aware=True),
    Loss('IABCELossX', quality_aware=True),
    Loss('FocalLossX', {'use_sigmoid': False}),
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


def cell(head: Head, loss: Loss, notes: list[str]) -> str:
    reason = misfit(head, loss)
    if reason:
        if reason not in notes:
            notes.append(reason)
        return f'[{notes.index(reason) + 1}]'
    return '○' if loss.quality_aware and not head.soft else '✓'


def table(heads: Iterable[Head], notes: list[str]) -> list[str]:
    lines = [
        '| head | ' + ' | '.join(loss.id for loss in LOSSES) + ' |',
        '|---' * (len(LOSSES) + 1) + '|',
    ]
    for head in heads:
        cells = [cell(head, loss, notes) for loss in LOSSES]
        lines.append(f'| {head.id} | ' + ' | '.join(cells) + ' |')
    return lines


INTRODUCTION = """\
# Which loss fits which head of mmdet

Every dense head of mmdet that calls `loss_cls(pred, target, weight, avg_factor=...)` takes the
losses of this package by config alone. `tests/test_matrix.py` takes a training step with every
pair below and checks what the head hands over; this page is written from the same data by
`PYTHONPATH=tests python -m matrix`.

{heads} rows, {pairs} pairs: {fitting} fit, {misfits} do not.

- ✓ fits
- ○ runs, but the head hands over hard labels: a quality-aware loss takes every quality as 1
  (SlideLossX then weighs nothing). `RetinaHeadX` and `FCOSHeadX` hand over the quality
- [n] does not fit, see the reasons below

`use_sigmoid=True` is spelled out in every config: mmdet's heads read it from there.
"""
BOXES = """\
FocalEIoULossX takes the place of the IoU loss (`loss_bbox`, in the DETR family `loss_iou`) in {}.
It fits wherever decoded boxes are handed over; with anchors that needs `reg_decoded_bbox=True`."""
FORMS = {
    LABELS: 'integer labels',
    QUALITY: 'labels and a quality for each, `(labels, quality)`',
    DENSE: 'a score for each prediction and class, of the shape of the predictions',
}


def notes_on(heads: Iterable[Head]) -> list[str]:
    lines = []
    for head in heads:
        args = ', '.join(f'`{name}={value!r}`' for name, value in head.loss_args.items())
        parts = [f'{head.unreduced} from an unreduced loss'] if head.unreduced else []
        parts += [f'the loss needs {args}'] if args else []
        parts += [f'the loss is `{name}`' for name in head.loss_names if name != 'loss_cls']
        parts += [head.note] if head.note else []
        if parts:
            lines.append(f'- {head.id}: ' + '; '.join(parts))
    return lines


def document() -> str:
    counts = dict(heads=len(HEADS), pairs=len(PAIRS), fitting=len(FITTING), misfits=len(MISFITS))
    lines = [INTRODUCTION.format(**counts)]
    notes: list[str] = []
    for form, meaning in FORMS.items():
        heads = [head for head in HEADS if head.hands_over == form]
        lines += [f'## Heads that hand over {meaning}', '', *table(heads, notes), '']
        lines += [*notes_on(heads), '']
    lines += ['## Why a pair does not fit', '']
    lines += [f'{number}. {reason}' for number, reason in enumerate(notes, 1)]
    lines += ['', '## Boxes', '', BOXES.format(', '.join(head.id for head in WITH_BOXES))]
    lines += [
        '',
        '## Heads that no loss of this package fits',
        '',
        '| head | reason |',
        '|---|---|',
    ]
    lines += [f'| {row.type} | {row.reason} |' for row in OUTSIDE]
    lines += ['', '## Heads that were not run', '', '| head | reason |', '|---|---|']
    lines += [f'| {name} | {reason} |' for name, reason in NOT_RUN.items()]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    PAGE.write_text(document(), encoding='utf-8')
