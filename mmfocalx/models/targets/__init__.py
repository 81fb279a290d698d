"""Training targets of a whole batch at once, equal to mmdet's; the host never waits for them."""

from .anchor_targets import AnchorTargets, anchor_targets
from .boxes import aligned_overlaps, decode_deltas, encode_deltas
from .coverage import (
    BatchedTargetsHead,
    overridden,
    uncovered_anchor_settings,
    uncovered_boxes,
)
from .owners import Owners, labels_by_number, numbered
from .point_targets import Points, point_targets
from .positives import Positives
from .priors import Kept, KeptPriors, penalty

__all__ = [
    'AnchorTargets',
    'BatchedTargetsHead',
    'Kept',
    'KeptPriors',
    'Owners',
    'Points',
    'Positives',
    'aligned_overlaps',
    'anchor_targets',
    'decode_deltas',
    'encode_deltas',
    'labels_by_number',
    'numbered',
    'overridden',
    'penalty',
    'point_targets',
    'uncovered_anchor_settings',
    'uncovered_boxes',
]
