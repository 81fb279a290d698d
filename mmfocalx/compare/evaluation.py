"""A finished run's detections, judged: AP, errors, calibration, and the matches behind them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from mmfocalx.compare.intervals import MATCH_LEVELS, image_weights, resampled_ap
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.evaluation.matching import ClassMatches, match, read_annotations
from mmfocalx.evaluation.metric import score_quality

REPLICATES = 1000


@dataclass(frozen=True)
class Evaluation:
    """One finished run.

    Attributes:
        run: The run.
        result: Its ``result.json``.
        detections: (N, 7) rows of image id, x, y, width, height, score, class id.
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

    @property
    def ap(self) -> dict[str, float]:
        """MAP, AP50 and AP75, 0 to 1."""
        by_level = self.precision.mean(axis=1)
        return {
            'mAP': float(by_level.mean()),
            'AP50': float(by_level[0]),
            'AP75': float(by_level[5]),
        }


@lru_cache(maxsize=4)
def ground_truth(annotations: str) -> COCO:
    """An annotation file, read once."""
    return read_annotations(annotations)


def evaluate(outcome: Outcome) -> Evaluation:
    """Judge the detections of a run that has a result."""
    run, result = outcome.run, outcome.result
    if result is None:
        raise ValueError(f'{run.label} has no result: {outcome.reason}')
    truth = ground_truth(result['annotations'])
    found = json.loads((run.result_file.parent / result['predictions']).read_text())
    detections = np.array(
        [(d['image_id'], *d['bbox'], d['score'], d['category_id']) for d in found], dtype=np.float64
    ).reshape(-1, 7)
    used = {name.removeprefix('coco/').removesuffix('_precision') for name in result['metrics']}
    names = {one['id']: one['name'] for one in truth.dataset['categories']}
    if used & set(names.values()):  # the classes of the config, if the file has more
        names = {class_id: name for class_id, name in names.items() if name in used}
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
    return Evaluation(
        run,
        result,
        detections,
        matches,
        {
            name: float(precision[:, :, k].mean())
            for k, name in enumerate(names.values())
            if present[k]
        },
        precision[:, :, present].mean(axis=2),
        {kind: float(tide.get(kind, math.nan)) for kind in TIDE_ERRORS},
        score_quality(matches, classwise=True),
        resampled_ap(matches, weights),
    )


TIDE_ERRORS = {
    'Cls': 'wrong class',
    'Loc': 'badly placed',
    'Both': 'both',
    'Dupe': 'duplicate',
    'Bkg': 'background',
    'Miss': 'missed',
}
"""Types of error of TIDE (Bolya et al. 2020, https://arxiv.org/abs/2008.08115)."""
