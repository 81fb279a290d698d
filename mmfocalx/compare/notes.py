"""What a reader of a report has to know about its numbers, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mmfocalx.compare.comparison import Comparison, Group
from mmfocalx.compare.runs import Run


def notes_of(comparison: Comparison, plan: Sequence[Run]) -> list[str]:
    """About the configs and what they were trained with."""
    return []


def notes_of_group(group: Group, comparison: Comparison) -> list[str]:
    """About the configs of one group."""
    return []
