"""The page that says which loss fits which head, from the rows that the tests run."""

from __future__ import annotations

from collections.abc import Iterable

from helpers.matrix import (
    FITTING,
    HEADS,
    LOSSES,
    MISFITS,
    NOT_RUN,
    OUTSIDE,
    PAIRS,
    WITH_BOXES,
    Loss,
    misfit,
)
from helpers.matrix_head import DENSE, LABELS, QUALITY, Head

INTRODUCTION = """\
# Which loss fits which head of mmdet

Every dense head of mmdet that calls `loss_cls(pred, target, weight, avg_factor=...)` takes the
losses of this package by config alone. `tests/heads/test_matrix.py` takes a training step with
every pair below and checks what the head hands over; `make docs` writes this page from the same
rows.

{heads} rows, {pairs} pairs: {fitting} fit, {misfits} do not.

- ✓ fits
- ○ runs, but the head hands over hard labels: a quality-aware loss takes every quality as 1.
  The heads of this package, whose names end in X, hand over the quality
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


def head_page() -> str:
    """The page as Markdown."""
    counts = dict(heads=len(HEADS), pairs=len(PAIRS), fitting=len(FITTING), misfits=len(MISFITS))
    lines = [INTRODUCTION.format(**counts)]
    reasons: list[str] = []
    for form, meaning in FORMS.items():
        heads = [head for head in HEADS if head.hands_over == form]
        lines += [f'## Heads that hand over {meaning}', '', *_pairs(heads, reasons), '']
        lines += [*_notes(heads), '']
    lines += ['## Why a pair does not fit', '']
    lines += [f'{number}. {reason}' for number, reason in enumerate(reasons, 1)]
    lines += ['', '## Boxes', '', BOXES.format(', '.join(head.id for head in WITH_BOXES))]
    lines += ['', '## Heads that no loss of this package fits', '']
    lines += _table(['head', 'reason'], ([row.type, row.reason] for row in OUTSIDE))
    lines += ['', '## Heads that were not run', '']
    lines += _table(['head', 'reason'], map(list, NOT_RUN.items()))
    return '\n'.join(lines) + '\n'


def _pairs(heads: Iterable[Head], reasons: list[str]) -> list[str]:
    rows = ([head.id, *(_cell(head, loss, reasons) for loss in LOSSES)] for head in heads)
    return _table(['head', *(loss.id for loss in LOSSES)], rows)


def _cell(head: Head, loss: Loss, reasons: list[str]) -> str:
    reason = misfit(head, loss)
    if reason:
        if reason not in reasons:
            reasons.append(reason)
        return f'[{reasons.index(reason) + 1}]'
    return '○' if loss.kind.quality_aware and not head.soft else '✓'


def _notes(heads: Iterable[Head]) -> list[str]:
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


def _table(titles: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [titles, ['---'] * len(titles), *rows]
    return [f'| {" | ".join(cells)} |' for cells in lines]
