"""Imbalanced digits: real handwritten digits in folders of classes, one common and some rare.

The digits are the 1,797 scans that ship inside scikit-learn, so nothing is downloaded. The common
class, ``other``, comes first, as background does in medical images; ``1:RATIO`` is the number of
training images of a rare class to that of ``other``. A scan appears in one split only. ``val`` and
``test`` keep all their scans, so that the recall of a rare class rests on about 35 and 53 of them.

Run ``python -m mmfocalx.datasets.imbalanced_digits --task binary --ratio 100`` to make a set.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmfocalx.datasets.made_once import make_once
from mmfocalx.errors import check_choice, check_integer

RARE_DIGITS = {'binary': ('eight',), 'multiclass': ('seven', 'eight', 'nine')}
COMMON = 'other'
DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SHARE = {'train': 0.5, 'val': 0.2, 'test': 0.3}
IMAGE_SIZE = 32
FORMAT_VERSION = 1


class Scan(NamedTuple):
    """A scan, ``(8, 8)`` with ink from 0 to 16, and its place in scikit-learn's list."""

    number: int
    image: NDArray[Any]


def build(out: str | os.PathLike[str], task: str, ratio: int, seed: int = 0) -> bool:
    """Make the set in the folder ``out``, all of it or nothing; one process does, others wait.

    Args:
        out: The folder to make. It gets ``{train,val,test}/CLASS/*.png``, grey, 32 x 32 px.
        task: 'binary' (``other`` and ``eight``) or 'multiclass' (``other``, ``seven``, ``eight``
            and ``nine``).
        ratio: Training images of ``other`` to those of a rare class, which keeps at least one.
        seed: The same seed gives the same bytes.

    Returns:
        True if the set was made, False if a finished one with these settings was there.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or value, naming it, or if ``out``
            holds something else.
        ImportError: scikit-learn is missing.
    """
    check_choice('task', task, RARE_DIGITS)
    ratio = check_integer('ratio', ratio, low=1)
    seed = check_integer('seed', seed, low=0)
    stamp = {'format': FORMAT_VERSION, 'task': task, 'ratio': ratio, 'seed': seed}
    return make_once(
        out, 'imbalanced digits', stamp, partial(_write, task=task, ratio=ratio, seed=seed)
    )


def _write(root: Path, task: str, ratio: int, seed: int) -> None:
    for split, classes in _splits(task, ratio, seed).items():
        for name, scans in classes.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for scan in scans:
                path = folder / f'{scan.number:04d}.png'
                if not cv2.imwrite(str(path), _picture(scan.image)):
                    raise OSError(f'cannot write {str(path)!r}')


def _splits(task: str, ratio: int, seed: int) -> dict[str, dict[str, list[Scan]]]:
    """The scans of each class in each split."""
    classes = (COMMON, *RARE_DIGITS[task])
    found: dict[str, dict[str, list[Scan]]] = {
        split: {name: [] for name in classes} for split in SHARE
    }
    for digit, scans in _shuffled_scans(seed).items():
        name = digit if digit in classes else COMMON
        ends = np.round(np.cumsum([*SHARE.values()]) * len(scans)).astype(int)
        for split, begin, end in zip(SHARE, (0, *ends), ends, strict=False):
            found[split][name] += scans[begin:end]
    kept = max(1, round(len(found['train'][COMMON]) / ratio))
    for name in RARE_DIGITS[task]:
        found['train'][name] = found['train'][name][:kept]
    return found


def _shuffled_scans(seed: int) -> dict[str, list[Scan]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'imbalanced digits are the scans in scikit-learn: pip install scikit-learn'
        ) from error
    bunch = load_digits()
    rng = np.random.default_rng(seed)
    return {
        name: [
            Scan(int(number), bunch.images[number])
            for number in rng.permutation(np.flatnonzero(bunch.target == digit))
        ]
        for digit, name in enumerate(DIGITS)
    }


def _picture(scan: NDArray[Any]) -> NDArray[np.uint8]:
    grey = (scan * (255 / 16)).astype(np.float32)
    large = cv2.resize(grey, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
    return large.clip(0, 255).round().astype(np.uint8)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description='Make a set of imbalanced digits.')
    parser.add_argument('--task', choices=[*RARE_DIGITS], default='binary')
    parser.add_argument('--ratio', type=int, default=100, help='common to rare (default: 100)')
    parser.add_argument('--out', help='folder to make (default: data/imbalanced_digits/...)')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    out = args.out or f'data/imbalanced_digits/{args.task}-1to{args.ratio}'
    made = build(out, args.task, args.ratio, args.seed)
    print(f'{out}: {"made" if made else "already there"}')


if __name__ == '__main__':
    main()
