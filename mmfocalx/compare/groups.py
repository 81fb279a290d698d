"""What a report compares: the configs of one detector on one data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmfocalx.compare.evaluation import Evaluation, ground_truth
from mmfocalx.compare.intervals import Interval, over_images, over_seeds

AP_KINDS = ('mAP', 'AP50', 'AP75')


@dataclass
class Entry:
    """One config with its finished seeds.

    Attributes:
        name: The config's name.
        label: What tells it from the others of its group.
        runs: One evaluation for each seed.
    """

    name: str
    label: str
    runs: list[Evaluation]

    def ap(self, kind: str) -> list[float]:
        """MAP, AP50 or AP75 of each seed, in percent."""
        return [100 * run.ap[kind] for run in self.runs]

    def quality(self, key: str) -> list[float]:
        """A score-quality number of each seed."""
        return [run.quality[key] for run in self.runs]

    def resampled(self, kind: str) -> list[NDArray[np.float64]]:
        """(1 + R,) for each seed, in percent."""
        levels = {'mAP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)}[kind]
        return [100 * draw[:, levels].mean(axis=1) for draw in (run.draws for run in self.runs)]


@dataclass
class Group:
    """Configs of one detector, judged on one annotation file. The first is the baseline."""

    detector: str
    annotations: str
    entries: list[Entry]

    @property
    def baseline(self) -> Entry:
        """What the others are measured against."""
        return self.entries[0]

    @cached_property
    def num_images(self) -> int:
        """Images of the annotation file."""
        return len(ground_truth(self.annotations).get_img_ids())

    def differences(self, entry: Entry, kind: str) -> tuple[Interval, Interval]:
        """Against the baseline: the interval over images, and the one over seeds."""
        return (
            over_images(entry.resampled(kind), self.baseline.resampled(kind)),
            over_seeds(entry.ap(kind), self.baseline.ap(kind)),
        )


def group(evaluations: Iterable[Evaluation]) -> list[Group]:
    """Sort runs into groups, in the order given."""
    groups: dict[tuple[str, str], dict[str, list[Evaluation]]] = {}
    for one in evaluations:
        detector = str(one.run.resolve().model.type).removeprefix('mmdet.')
        configs = groups.setdefault((detector, one.result['annotations']), {})
        configs.setdefault(one.run.name, []).append(one)
    found = []
    for (detector, truth), configs in groups.items():
        labels = distinct_parts(list(configs))
        entries = [
            Entry(name, label, runs)
            for (name, runs), label in zip(configs.items(), labels, strict=True)
        ]
        found.append(Group(detector, truth, entries))
    return found


def distinct_parts(names: Sequence[str]) -> list[str]:
    """Names without the underscore-separated parts that all begin or end with."""
    parts = [name.split('_') for name in names]
    if len(parts) < 2:
        return list(names)
    shortest = min(map(len, parts))
    head = 0
    while head < shortest - 1 and len({part[head] for part in parts}) == 1:
        head += 1
    tail = 0
    while tail < shortest - head - 1 and len({part[-1 - tail] for part in parts}) == 1:
        tail += 1
    return ['_'.join(part[head : len(part) - tail]) for part in parts]
