"""Digit scenes: real handwritten digits on textured backgrounds, a detection set made in seconds.

The digits are the 1,797 scans that ship inside scikit-learn, so nothing is downloaded. Every scene
is ``192 x 192`` px and holds 2 to 8 digits with tight boxes. A scan appears in one split only. In
the training split digit ``d`` is drawn in proportion to ``1 / (d + 1)`` (Zipf's law); ``val`` and
``test`` draw all digits equally, so that every class's AP rests on as many boxes.

Run ``python -m mmfocalx.datasets.digit_scenes --out data/digit_scenes`` to make it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmfocalx.errors import check_integer, wrong

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SCENE_SIZE = 192
NUM_IMAGES = {'train': 600, 'val': 800, 'test': 600}
SCAN_SHARE = {'train': 0.6, 'val': 0.2, 'test': 0.2}
NUM_DIGITS = (2, 8)
DIGIT_HEIGHT = (22, 72)
MAX_ROTATION_DEGREES = 10
MAX_COVERED_SHARE = 0.05
INK_THRESHOLD = 0.35
JPEG_QUALITY = 92
FORMAT_VERSION = 1
STAMP = 'digit_scenes.json'

Array = NDArray[Any]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Split:
    """The scans of one split and how often each digit is drawn from them."""

    name: str
    scans: dict[int, Array]
    class_weights: Array


def build(out: str | os.PathLike[str], seed: int = 0) -> bool:
    """Make the set in the folder ``out``, all of it or nothing; one process does, others wait.

    Args:
        out: The folder to make. It gets ``{train,val,test}/*.jpg`` and
            ``annotations/{train,val,test}.json`` in COCO format.
        seed: The same seed gives the same bytes of JSON.

    Returns:
        True if the set was made, False if a finished one with this seed was there.

    Raises:
        TypeError: ``seed`` is no integer.
        ValueError: ``seed`` is negative, or ``out`` holds something else.
        ImportError: scikit-learn is missing.
    """
    seed = check_integer('seed', seed, low=0)
    target = Path(out).absolute()
    if _is_finished(target, seed):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(target) as scratch:
        if _is_finished(target, seed):  # by the process that had the scratch folder before
            return False
        for split, split_seed in zip(
            _splits(seed), np.random.SeedSequence(seed).spawn(3), strict=True
        ):
            _write_split(scratch, split, split_seed)
        (scratch / STAMP).write_text(json.dumps(_stamp(seed)))
        try:
            scratch.rename(target)
        except OSError:  # a copy of the finished set may have come from elsewhere meanwhile
            if not _is_finished(target, seed):
                raise
            return False
    return True


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target``, which one process has at a time, and others wait for.

    The lock on it ends with the process that holds it, so that the next one can tell, and remove,
    what a killed process left in it. It is removed in the end, unless it was moved.
    """
    scratch = target.with_name(f'.{target.name}.digit_scenes.part')
    while True:
        scratch.mkdir(exist_ok=True)
        try:
            descriptor = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:  # moved or removed meanwhile
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, scratch):
            if not any(scratch.iterdir()):
                break
            shutil.rmtree(scratch)
        os.close(descriptor)
    try:
        yield scratch
    finally:
        if _is_at(descriptor, scratch):
            shutil.rmtree(scratch, ignore_errors=True)
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _stamp(seed: int) -> dict[str, int]:
    return {'format': FORMAT_VERSION, 'seed': seed}


def _is_finished(folder: Path, seed: int) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    stamp = folder / STAMP
    found = json.loads(stamp.read_text()) if stamp.is_file() else None
    if found == _stamp(seed):
        return True
    what = f'digit scenes of {found}' if found else 'something that is no finished set'
    wrong(
        'out',
        f'a folder that is absent, empty or digit scenes of {_stamp(seed)}',
        str(folder),
        hint=f'It holds {what}. Remove it or choose another folder.',
    )


def _splits(seed: int) -> list[Split]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'digit scenes are made from the scans in scikit-learn: pip install scikit-learn'
        ) from error
    bunch = load_digits()
    rng = np.random.default_rng(seed)
    parts: dict[str, dict[int, Array]] = {name: {} for name in NUM_IMAGES}
    for digit in range(len(CLASSES)):
        scans = rng.permutation(bunch.images[bunch.target == digit] / np.float32(16))
        ends = np.cumsum([round(SCAN_SHARE[name] * len(scans)) for name in parts])[:-1]
        for name, part in zip(parts, np.split(scans, ends), strict=True):
            parts[name][digit] = part
    zipf = 1.0 / np.arange(1, len(CLASSES) + 1)
    weights = {name: zipf if name == 'train' else np.ones_like(zipf) for name in parts}
    return [Split(name, parts[name], weights[name] / weights[name].sum()) for name in parts]


def _write_split(root: Path, split: Split, seed: np.random.SeedSequence) -> None:
    rng = np.random.default_rng(seed)
    (root / split.name).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(NUM_IMAGES[split.name]):
        scene, digits = _render_scene(split, rng)
        file_name = f'{image_id:05d}.jpg'
        path = root / split.name / file_name
        if not cv2.imwrite(str(path), scene, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f'cannot write {str(path)!r}')
        images.append(
            {'id': image_id, 'file_name': file_name, 'width': SCENE_SIZE, 'height': SCENE_SIZE}
        )
        for digit, (x, y, w, h) in digits:
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': digit,
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'iscrowd': 0,
                }
            )
    coco = {
        'info': {'description': f'digit scenes, {split.name}', **_stamp_info()},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': digit, 'name': name} for digit, name in enumerate(CLASSES)],
    }
    folder = root / 'annotations'
    folder.mkdir(exist_ok=True)
    (folder / f'{split.name}.json').write_text(json.dumps(coco))


def _stamp_info() -> dict[str, Any]:
    return {
        'version': str(FORMAT_VERSION),
        'source': 'Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, '
        'UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0',
    }


def _render_scene(split: Split, rng: np.random.Generator) -> tuple[Array, list[tuple[int, Box]]]:
    scene = _background(rng)
    count = rng.integers(NUM_DIGITS[0], NUM_DIGITS[1], endpoint=True)
    placed: list[tuple[int, Box]] = []
    for digit in rng.choice(len(CLASSES), size=count, p=split.class_weights).tolist():
        scan = rng.choice(split.scans[digit])
        ink, (x, y, w, h) = _place(scan, [box for _, box in placed], rng)
        region = scene[y : y + h, x : x + w]
        region += ink[..., None] * (_ink_colour(region, rng) - region)
        placed.append((digit, (x, y, w, h)))
    scene += rng.uniform(1, 5) * rng.standard_normal(scene.shape, dtype=np.float32)
    return scene.clip(0, 255).astype(np.uint8), placed


def _background(rng: np.random.Generator) -> Array:
    """Coloured noise of several scales around a mean colour, ``(H, W, 3)`` float32."""
    size = (SCENE_SIZE, SCENE_SIZE)
    mean = rng.uniform(120, 210) + rng.normal(0, 20, 3)
    scene = np.tile(mean.astype(np.float32), (*size, 1))
    for cells, strength in ((2, 16), (6, 10), (24, 7), (96, 5)):
        stretched = (cells, max(2, round(cells * rng.uniform(0.3, 1))))
        grey = rng.standard_normal((*stretched, 1), dtype=np.float32)
        colour = 0.5 * rng.standard_normal((*stretched, 3), dtype=np.float32)
        scene += strength * cv2.resize(grey + colour, size, interpolation=cv2.INTER_CUBIC)
    return scene.clip(0, 255)


def _place(scan: Array, others: list[Box], rng: np.random.Generator) -> tuple[Array, Box]:
    """Draw the scan's size and angle until it fits beside the others; its ink and its box."""
    while True:
        ink = _ink(scan, rng)
        h, w = ink.shape
        x = int(rng.integers(0, SCENE_SIZE - w, endpoint=True))
        y = int(rng.integers(0, SCENE_SIZE - h, endpoint=True))
        if all(_covered_share((x, y, w, h), other) <= MAX_COVERED_SHARE for other in others):
            return ink, (x, y, w, h)


def _ink(scan: Array, rng: np.random.Generator) -> Array:
    """The scan enlarged, turned and cut to its ink: opacity in [0, 1], ``(h, w)``."""
    low, high = np.log(DIGIT_HEIGHT)
    zoom = np.exp(rng.uniform(low, high)) / len(scan)
    angle = np.deg2rad(rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES))
    side = int(np.ceil(1.5 * zoom * len(scan)))
    widths = np.diag([zoom, zoom * rng.uniform(0.8, 1.1)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_scan = np.linalg.inv(turn @ widths)
    shift = (len(scan) - 1) / 2 - to_scan @ np.full(2, (side - 1) / 2)
    grey = ndimage.affine_transform(
        scan, to_scan, shift, (side, side), order=3, mode='grid-constant'
    )
    ink = ((grey - 0.2) / 0.4).clip(0, 1)
    ys, xs = np.nonzero(ink > INK_THRESHOLD)
    return ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def _covered_share(a: Box, b: Box) -> float:
    """The overlap of two boxes as a share of the smaller one."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min(a[2] * a[3], b[2] * b[3])


def _ink_colour(region: Array, rng: np.random.Generator) -> Array:
    """A colour clearly darker than the background below the digit."""
    return (region.mean((0, 1)) - rng.uniform(80, 120) + rng.uniform(-20, 20, 3)).clip(0, 255)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description='Make the digit-scenes detection set.')
    parser.add_argument('--out', default='data/digit_scenes', help='folder to make')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    made = build(args.out, args.seed)
    print(f'{args.out}: {"made" if made else "already there"}')


if __name__ == '__main__':
    main()
