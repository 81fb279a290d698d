"""What a report says, computed once: its writers read it and compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmfocalx.compare.evaluation import Evaluation
from mmfocalx.compare.intervals import Difference, Spread, spread_of
from mmfocalx.compare.logs import Curves
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.reporting.gaps import Gaps

NOTHING = spread_of(())
AP_KINDS = ('mAP', 'AP50', 'AP75')


class Quality(NamedTuple):
    """A score-quality number: its title, meaning and direction, and the factor it is shown with."""

    title: str
    meaning: str
    more_is_better: bool
    factor: float


QUALITY = {
    'spearman': Quality(
        'Spearman', 'rank correlation of score and IoU over matched detections', True, 1
    ),
    'pearson': Quality(
        'Pearson', 'linear correlation of score and IoU over matched detections', True, 1
    ),
    'LaECE0': Quality('LaECE0', 'localisation-aware calibration error, all detections', False, 100),
    'LaECE0_kept': Quality('LaECE0 kept', 'the same above the optimal LRP threshold', False, 100),
    'D-ECE': Quality('D-ECE', 'detection calibration error at IoU 0.5, all detections', False, 100),
    'D-ECE_kept': Quality('D-ECE kept', 'the same above the optimal LRP threshold', False, 100),
    'oLRP': Quality('oLRP', 'optimal localisation-recall-precision error', False, 100),
    'oLRP_loc': Quality('oLRP loc', 'its localisation part: mean of 1 - IoU', False, 100),
    'oLRP_FP': Quality('oLRP FP', 'its false-positive part: 1 - precision', False, 100),
    'oLRP_FN': Quality('oLRP FN', 'its false-negative part: 1 - recall', False, 100),
}


@dataclass
class RunNumbers:
    """The numbers of a run, as they are shown; see :class:`Variant` for each."""

    seed: int
    ap: dict[str, float]
    quality: dict[str, float]
    seconds: float
    memory: float
    iterations: int | None


@dataclass
class Variant:
    """One config with its finished seeds.

    Attributes:
        name: The config's name.
        label: What tells it from the others of its group.
        evaluations: One for each finished seed.
        ap: MAP, AP50 and AP75 in percent.
        class_ap: AP in percent of each class.
        never_found: The classes that no seed found an object of.
        quality: The numbers of :data:`QUALITY`, multiplied by their factors.
        thresholds: The optimal score threshold of each class.
        seconds: Time of training.
        memory: Peak memory of training in MB.
        rows: The numbers of each seed.
        curves: Loss and mAP while training, of each seed.
        watched_others: Whether a training watched its mAP on annotations that have changed since;
            the curves then lack it.
        differences: From the baseline, of each kind of AP; none for the baseline itself.
    """

    name: str
    label: str
    evaluations: list[Evaluation] = field(default_factory=list)
    ap: dict[str, Spread] = field(default_factory=dict)
    class_ap: dict[str, Spread] = field(default_factory=dict)
    never_found: list[str] = field(default_factory=list)
    quality: dict[str, Spread] = field(default_factory=dict)
    thresholds: dict[str, Spread] = field(default_factory=dict)
    seconds: Spread = NOTHING
    memory: Spread = NOTHING
    rows: list[RunNumbers] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    watched_others: bool = False
    differences: dict[str, Difference] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """The finished seeds."""
        return [evaluation.run.seed for evaluation in self.evaluations]

    def of_seeds(self, seeds: list[int]) -> list[Evaluation]:
        """The evaluations of some seeds, in their order."""
        by_seed = {evaluation.run.seed: evaluation for evaluation in self.evaluations}
        return [by_seed[seed] for seed in seeds]


@dataclass
class Group:
    """Configs of one detector with the same classes, judged on one annotation file.

    Attributes:
        detector: Type of the model.
        annotations: The annotation file.
        classes: What the detector tells apart; empty where the data set's own classes hold.
        variants: The configs in the order given.
        baseline: What the others are measured against: the first config given, or None if it has
            no finished seed.
        expected_baseline: The name of the first config given.
        num_images: Images of the annotation file.
        class_names: Those with objects, the most frequent in ``class_counts`` first.
        class_counts: Objects of each class.
        counted_in: Where they were counted: 'training' or 'the tested split'.
        trained: Whether the detections came of trainings with seeds, not of files at hand.
        best: The name of the config with the largest mean of each kind of AP; none where the
            means are not over the same seeds.
    """

    detector: str
    annotations: str
    classes: tuple[str, ...]
    variants: list[Variant]
    baseline: Variant | None = None
    expected_baseline: str = ''
    num_images: int = 0
    class_names: list[str] = field(default_factory=list)
    class_counts: dict[str, int] = field(default_factory=dict)
    counted_in: str = ''
    trained: bool = True
    best: dict[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> list[Variant]:
        """The configs that have a finished seed."""
        return [variant for variant in self.variants if variant.evaluations]

    @property
    def others(self) -> list[Variant]:
        """The configs that are measured against the baseline."""
        return [variant for variant in self.variants if variant.differences]


@dataclass
class LeftOut:
    """A run that no number of the report rests on, and the reason."""

    name: str
    seed: int
    reason: str
    log: str


@dataclass
class Comparison:
    """Everything that a report says.

    Attributes:
        split: The split that was tested on.
        seeds: All seeds that were asked for.
        planned: Number of runs that were asked for.
        groups: What is compared.
        left_out: Runs that no number rests on.
        results: The ``result.json`` of every finished run, or the facts of every file of
            detections, with what the detections are worth.
        notes: What a reader has to know, in sentences.
        gaps: The parts of the report that are missing.
        versions: Versions of the packages that the runs were trained with.
        command: The command line that makes the report.
    """

    split: str
    seeds: list[int]
    planned: int
    groups: list[Group] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ''

    @property
    def finished(self) -> int:
        """Number of runs that have been judged."""
        return sum(len(variant.evaluations) for variant in self.variants)

    @property
    def trained(self) -> bool:
        """Whether configs are compared, not files of detections."""
        return all(group.trained for group in self.groups)

    @property
    def variants(self) -> list[Variant]:
        """The configs of all groups."""
        return [variant for group in self.groups for variant in group.variants]


def left_out(outcomes: Sequence[Outcome], unjudged: Mapping[Run, str]) -> list[LeftOut]:
    """The runs that failed, and those that could not be judged."""
    return [
        LeftOut(outcome.run.name, outcome.run.seed, reason, str(outcome.run.work_dir))
        for outcome in outcomes
        if (reason := outcome.reason or unjudged.get(outcome.run, ''))
    ]
