"""A finished run's detections, judged: AP, errors, calibration, and the matches behind them.

Each run is judged once: the evaluation is stored beside the run's result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from mmfocalx.compare.identity import changes, now
from mmfocalx.compare.intervals import MATCH_LEVELS, image_weights, resampled_ap
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.evaluation.annotations import ground_truth
from mmfocalx.evaluation.ground_truth import GroundTruth
from mmfocalx.evaluation.matching import ClassMatches, match
from mmfocalx.evaluation.metric import score_quality
from mmfocalx.files import file_hash, whole
from mmfocalx.version import __version__

REPLICATES = 1000
TIDE_ERRORS = {
    'Cls': 'wrong class',
    'Loc': 'badly placed',
    'Both': 'both',
    'Dupe': 'duplicate',
    'Bkg': 'background',
    'Miss': 'missed',
}
"""Types of error of TIDE (Bolya et al. 2020, https://arxiv.org/abs/2008.08115)."""
STORED_NUMBERS = ('class_ap', 'tide', 'quality')
STORED_ARRAYS = ('detections', 'precision', 'draws')


@dataclass(frozen=True)
class Evaluation:
    """One finished run.

    Attributes:
        run: The run.
        result: Its ``result.json``.
        detections: (N, 7) rows of image index, x, y, width, height, score, class index, as of
            :class:`~mmfocalx.evaluation.ground_truth.GroundTruth`.
        matches: Matches at :data:`~mmfocalx.compare.intervals.MATCH_LEVELS` of each class name.
        class_ap: AP of each class with objects.
        precision: (10, 101) precision over recall 0, 0.01, ... 1, mean over the classes.
        tide: AP50 that each type of error costs.
        quality: What :class:`~mmfocalx.evaluation.ScoreQualityMetric` reports, of each class too.
        draws: (1 + R, 10) AP at each IoU threshold: of the images as they are, then drawn again.
    """

    run: Run
    result: dict[str, Any]
    detections: NDArray[np.float64]
    matches: dict[str, ClassMatches]
    class_ap: dict[str, float]
    precision: NDArray[np.float64]
    tide: dict[str, float]
    quality: dict[str, float]
    draws: NDArray[np.float64]

    def numbers(self) -> dict[str, Any]:
        """The result with what its detections were found to be worth, too."""
        found = {'ap': self.ap, 'class_ap': self.class_ap}
        return {**self.result, **found, 'tide': self.tide, 'quality': self.quality}

    @property
    def ap(self) -> dict[str, float]:
        """MAP, AP50 and AP75, 0 to 1."""
        by_level = self.precision.mean(axis=1)
        return {
            'mAP': float(by_level.mean()),
            'AP50': float(by_level[0]),
            'AP75': float(by_level[5]),
        }


def judge(outcome: Outcome) -> Evaluation:
    """:func:`evaluate`, unless that was done for the same detections and annotations before.

    Raises:
        ValueError: If there is no result, or its data are not those that were tested on.
    """
    result = result_of(outcome)
    folder = outcome.run.result_file.parent
    tested = result['identity']['testing']
    found = changes(tested, now(tested))
    if found:
        raise ValueError(f'since the test, {"; ".join(found)}')
    stored = folder / 'judged.npz'
    key = [file_hash(folder / result['predictions']), *tested.values()]
    key += [__version__, version('hotcoco'), str(REPLICATES), 'ids are indices']
    try:
        fields = _read(stored, key)
    except Exception:  # missing or damaged in any way: it is made again
        fields = None
    if fields is not None:
        return Evaluation(outcome.run, result, **fields)
    evaluation = evaluate(outcome)
    with suppress(OSError):  # a full disk: the next call judges again
        _write(stored, key, evaluation)
    return evaluation


def evaluate(outcome: Outcome) -> Evaluation:
    """Judge the detections of a run that has a result."""
    run, result = outcome.run, result_of(outcome)
    annotations = ground_truth(result['annotations'])
    found = json.loads((run.result_file.parent / result['predictions']).read_text(encoding='utf-8'))
    return evaluated(run, result, annotations, annotations.rows(found))


def evaluated(
    run: Run, result: dict[str, Any], annotations: GroundTruth, detections: NDArray[np.float64]
) -> Evaluation:
    """Judge detections.

    Args:
        run: What they are listed under.
        result: What is known of them beside.
        annotations: What they are judged by.
        detections: (N, 7) rows of image index, x, y, width, height, score, class index.
    """
    truth = annotations.coco
    names = _tested_classes(annotations.class_names, result)
    evaluation = COCOeval(truth, truth.load_res(detections if len(detections) else []), 'bbox')
    params = evaluation.params
    params.cat_ids = list(names)
    evaluation.params = params
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.array((evaluation.eval or {})['precision'])[:, :, :, 0, -1]  # T, recall, class
    present = precision[0, 0] >= 0
    by_id = match(truth, detections, list(names), MATCH_LEVELS)
    matches = {name: by_id[class_id] for class_id, name in names.items()}
    tide = evaluation.tide_errors()['delta_ap'] if len(detections) else {}
    weights = image_weights(len(truth.get_img_ids()), REPLICATES)
    weights = np.concatenate([np.ones_like(weights[:1]), weights])
    class_ap = {
        name: float(precision[:, :, k].mean())
        for k, name in enumerate(names.values())
        if present[k]
    }
    return Evaluation(
        run=run,
        result=result,
        detections=detections,
        matches=matches,
        class_ap=class_ap,
        precision=precision[:, :, present].mean(axis=2),
        tide={kind: float(tide.get(kind, math.nan)) for kind in TIDE_ERRORS},
        quality=score_quality(matches, classwise=True),
        draws=resampled_ap(matches, weights),
    )


def result_of(outcome: Outcome) -> dict[str, Any]:
    """The result of a run.

    Raises:
        ValueError: If there is none.
    """
    if outcome.result is None:
        raise ValueError(f'{outcome.run.label} has no result: {outcome.reason}')
    return outcome.result


def _tested_classes(class_names: Sequence[str], result: dict[str, Any]) -> dict[int, str]:
    """Class names by index: those that the test reported, where the file has more."""
    reported = {
        name.removeprefix('coco/').removesuffix('_precision') for name in result.get('metrics', ())
    }
    names = dict(enumerate(class_names))
    return {k: name for k, name in names.items() if name in reported} or names


def _write(path: Path, key: list[str], evaluation: Evaluation) -> None:
    arrays = {name: getattr(evaluation, name) for name in STORED_ARRAYS}
    for k, matches in enumerate(evaluation.matches.values()):
        arrays |= {f'{name}/{k}': array for name, array in vars(matches).items()}
    about = {'key': key, 'classes': list(evaluation.matches)}
    about |= {name: getattr(evaluation, name) for name in STORED_NUMBERS}
    with whole(path, 'wb') as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def _read(path: Path, key: list[str]) -> dict[str, Any] | None:
    """The fields of an evaluation, or None if it was made of something else."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file['about']))
        if about['key'] != key:
            return None
        arrays: dict[str, NDArray[Any]] = dict(file)
    fields: dict[str, Any] = {name: about[name] for name in STORED_NUMBERS}
    fields |= {name: arrays[name] for name in STORED_ARRAYS}
    names = ClassMatches.__dataclass_fields__
    fields['matches'] = {
        label: ClassMatches(**{name: arrays[f'{name}/{k}'] for name in names})
        for k, label in enumerate(about['classes'])
    }
    return fields
