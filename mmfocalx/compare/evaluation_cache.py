"""Each run is judged once: what was found is kept beside its result."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mmfocalx.compare.evaluation import REPLICATES, Evaluation, evaluate
from mmfocalx.compare.runs import Outcome
from mmfocalx.evaluation.matching import ClassMatches
from mmfocalx.files import whole
from mmfocalx.version import __version__

NUMBERS = ('class_ap', 'tide', 'quality')
ARRAYS = ('detections', 'precision', 'draws')


def judge(outcome: Outcome) -> Evaluation:
    """:func:`evaluate`, unless that was done for the same detections and annotations before."""
    if outcome.result is None:
        raise ValueError(f'{outcome.run.label} has no result: {outcome.reason}')
    folder = outcome.run.result_file.parent
    path = folder / 'judged.npz'
    files = folder / outcome.result['predictions'], Path(outcome.result['annotations'])
    key = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    key += [__version__, version('hotcoco'), str(REPLICATES)]
    try:
        kept = _read(path, key)
    except (OSError, KeyError, ValueError, BadZipFile):
        kept = None
    if kept is not None:
        return Evaluation(outcome.run, outcome.result, **kept)
    evaluation = evaluate(outcome)
    _write(path, key, evaluation)
    return evaluation


def _write(path: Path, key: list[str], evaluation: Evaluation) -> None:
    arrays = {name: getattr(evaluation, name) for name in ARRAYS}
    for k, matches in enumerate(evaluation.matches.values()):
        arrays |= {f'{name}/{k}': array for name, array in vars(matches).items()}
    about = {'key': key, 'classes': list(evaluation.matches)}
    about |= {name: getattr(evaluation, name) for name in NUMBERS}
    with whole(path, 'wb') as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def _read(path: Path, key: list[str]) -> dict[str, Any] | None:
    """The fields of an evaluation, or None if it was made of something else."""
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file['about']))
        if about['key'] != key:
            return None
        arrays: dict[str, NDArray[Any]] = dict(file)
    fields: dict[str, Any] = {name: about[name] for name in NUMBERS}
    fields |= {name: arrays[name] for name in ARRAYS}
    names = ClassMatches.__dataclass_fields__
    fields['matches'] = {
        label: ClassMatches(**{name: arrays[f'{name}/{k}'] for name in names})
        for k, label in enumerate(about['classes'])
    }
    return fields
