"""Calibrated scores from breakpoints in a JSON file; needs numpy only, and no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmfocalx.errors import wrong
from mmfocalx.files import read_json, write_json

FORMAT = 'mmfocalx calibrator 1'


@dataclass(frozen=True)
class Breakpoints:
    """A curve from scores to calibrated scores: straight between its points, level outside.

    Attributes:
        category_id: The class's id in the annotations.
        scores: (K,) ascending.
        calibrated: (K,) never descending.
    """

    category_id: int | str
    scores: NDArray[np.float64]
    calibrated: NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """A curve for each class; other classes keep their scores.

    Attributes:
        classes: The curves by the names of the classes.
        about: What it was fitted on and to, as JSON can hold it.
    """

    classes: Mapping[str, Breakpoints]
    about: Mapping[str, Any]

    def __call__(self, scores: ArrayLike, name: str) -> NDArray[np.float64]:
        """Calibrated scores of detections of the class called ``name``, in the given shape."""
        scores = np.asarray(scores, dtype=np.float64)
        curve = self.classes.get(name)
        return scores if curve is None else np.interp(scores, curve.scores, curve.calibrated)

    def save(self, path: Path) -> None:
        """Write what :func:`load_calibrator` reads."""
        classes = {
            name: {
                'category_id': curve.category_id,
                'scores': curve.scores.tolist(),
                'calibrated': curve.calibrated.tolist(),
            }
            for name, curve in self.classes.items()
        }
        write_json(path, {'format': FORMAT, **self.about, 'classes': classes})


def load_calibrator(path: str | Path) -> Calibrator:
    """Read a calibrator.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no calibrator.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from mmfocalx.analysis.calibrator import Breakpoints, Calibrator, load_calibrator
        >>> curve = Breakpoints(1, np.array([0.2, 0.8]), np.array([0.1, 0.5]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Calibrator({'cat': curve}, {}).save(Path(folder, 'calibrator.json'))
        ...     calibrator = load_calibrator(Path(folder, 'calibrator.json'))
        >>> calibrator([0.0, 0.5, 1.0], 'cat')
        array([0.1, 0.3, 0.5])
    """
    content = read_json(Path(path))
    if content is None:
        raise FileNotFoundError(f'No calibrator {path}')
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        wrong('path', f'a file with "format": "{FORMAT}"', str(path))
    about = {key: value for key, value in content.items() if key not in ('format', 'classes')}
    classes = {}
    for name, curve in content['classes'].items():
        points = (np.array(curve[key], dtype=np.float64) for key in ('scores', 'calibrated'))
        classes[name] = Breakpoints(curve['category_id'], *points)
    return Calibrator(classes, about)
