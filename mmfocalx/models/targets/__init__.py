"""Training targets of a whole batch at once, equal to mmdet's; the host never waits for them."""

from .anchor_targets import AnchorTargets, anchor_targets
from .boxes import aligned_overlaps, decode_deltas, encode_deltas
from .coverage import (
    BatchedTargetsHead,
    overridden,
    uncovered_anchor_settings,
    uncovered_boxes,
)
from .matched import Matched
from .owners import Owners, boxes_by_number, labels_by_number, numbered
from .point_targets import Points, point_targets
from .positives import Positives
from .priors import Anchors, Kept, KeptPriors, Outside, outside_of

__all__ = [
    'AnchorTargets',
    'Anchors',
    'BatchedTargetsHead',
    'Kept',
    'KeptPriors',
    'Matched',
    'Outside',
    'Owners',
    'Points',
    'Positives',
    'aligned_overlaps',
    'anchor_targets',
    'boxes_by_number',
    'decode_deltas',
    'encode_deltas',
    'labels_by_number',
    'numbered',
    'outside_of',
    'overridden',
    'point_targets',
    'uncovered_anchor_settings',
    'uncovered_boxes',
]
