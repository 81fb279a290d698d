from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .owners import Owners
from .positives import Positives


class Matched(NamedTuple):
    """What the losses need of the N predictions of a batch, image after image, R at hand.

    Attributes:
        labels: (N,), the number of classes for background.
        positives: which predictions are positive.
        owners: which objects the rows at hand belong to.
        priors: (R, 4) anchors, xyxy, or (R, 2) locations, with what decodes a prediction there.
        boxes: (R, 4) target boxes, xyxy.
        box_weights: (R,) or (R, 4) weights of the box loss, 0 where there is no object.
        num_pos: number of positives as the head counts them, a mean over all ranks.
        label_weights: (N,), 0 for predictions to leave out; None if all count.
        deltas: (R, 4) encoded target boxes, where the box loss compares deltas.
    """

    labels: Tensor
    positives: Positives
    owners: Owners
    priors: Tensor
    boxes: Tensor
    box_weights: Tensor
    num_pos: float | Tensor
    label_weights: Tensor | None = None
    deltas: Tensor | None = None
