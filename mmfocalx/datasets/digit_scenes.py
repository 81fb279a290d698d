"""Digit scenes: real handwritten digits on textured backgrounds, a detection set made in seconds.

The digits are the 1,797 scans that ship inside scikit-learn, so nothing is downloaded. Every scene
is ``192 x 192`` px and holds 2 to 8 digits with tight boxes. A scan appears in one split only. In
the training split digit ``d`` is drawn in proportion to ``1 / (d + 1)`` (Zipf's law); ``val`` and
``test`` draw all digits equally, so that every class's AP rests on as many boxes.

Run ``python -m mmfocalx.datasets.digit_scenes --out data/digit_scenes`` to make it; ``--masks``
adds the mask of every digit in annotation files of their own.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmfocalx.errors import check_bool, check_integer, wrong
from mmfocalx.files import exclusive_folder

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


class Digit(NamedTuple):
    """A digit in a scene: its class, its box, and where in the box its ink is, ``(h, w)`` bool."""

    label: int
    box: Box
    ink: Array


@dataclass(frozen=True)
class Split:
    """The scans of one split and how often each digit is drawn from them."""

    name: str
    scans: dict[int, Array]
    class_weights: Array


def build(out: str | os.PathLike[str], seed: int = 0, masks: bool = False) -> bool:
    """Make the set in the folder ``out``, all of it or nothing; one process does, others wait.

    Args:
        out: The folder to make. It gets ``{train,val,test}/*.jpg`` and
            ``annotations/{train,val,test}.json`` in COCO format.
        seed: The same seed gives the same bytes of JSON.
        masks: Whether it gets ``annotations/{train,val,test}_masks.json``, too, which also have
            the mask of each digit. A finished set without them gets them and is else left alone.

    Returns:
        True if anything was made, False if a finished one with this seed was there.

    Raises:
        TypeError: ``seed`` is no integer, or ``masks`` no bool.
        ValueError: ``seed`` is negative, or ``out`` holds something else.
        ImportError: scikit-learn is missing.
    """
    seed = check_integer('seed', seed, low=0)
    check_bool('masks', masks)
    target = Path(out).absolute()
    if _is_finished(target, seed, masks):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_folder(target.with_name(f'.{target.name}.digit_scenes.part')) as scratch:
        if _is_finished(target, seed, masks):  # by the process that had the folder before
            return False
        seeds = np.random.SeedSequence(seed).spawn(3)
        for split, split_seed in zip(_splits(seed), seeds, strict=True):
            _write_split(scratch, split, split_seed, masks)
        (scratch / STAMP).write_text(json.dumps(_stamp(seed)))
        if _is_finished(target, seed):
            return masks and _add_masks(scratch, target)
        try:
            scratch.rename(target)
        except OSError:  # a copy of the finished set may have come from elsewhere meanwhile
            if not _is_finished(target, seed, masks):
                raise
            return False
    return True


def _annotation_file(root: Path, split: str, masks: bool = False) -> Path:
    return root / 'annotations' / (f'{split}_masks.json' if masks else f'{split}.json')


def _add_masks(new: Path, finished: Path) -> bool:
    """Move the annotations with masks of one set into another one of the same boxes."""
    boxes, known = (
        [_annotation_file(root, split).read_bytes() for split in NUM_IMAGES]
        for root in (new, finished)
    )
    if boxes != known:
        expected = 'a folder with the boxes that are made here from its seed'
        hint = 'Other versions of NumPy, SciPy or OpenCV made it. Choose another folder.'
        wrong('out', expected, str(finished), hint=hint)
    for split in NUM_IMAGES:
        _annotation_file(new, split, True).replace(_annotation_file(finished, split, True))
    return True


def _stamp(seed: int) -> dict[str, int]:
    return {'format': FORMAT_VERSION, 'seed': seed}


def _is_finished(folder: Path, seed: int, masks: bool = False) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    stamp = folder / STAMP
    found = json.loads(stamp.read_text()) if stamp.is_file() else None
    if found == _stamp(seed):
        return not masks or all(_annotation_file(folder, s, True).is_file() for s in NUM_IMAGES)
    what = f'digit scenes of {found}' if found else 'something that is no finished set'
    expected = f'a folder that is absent, empty or digit scenes of {_stamp(seed)}'
    hint = f'It holds {what}. Remove it or choose another folder.'
    wrong('out', expected, str(folder), hint=hint)


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


def _write_split(root: Path, split: Split, seed: np.random.SeedSequence, masks: bool) -> None:
    rng = np.random.default_rng(seed)
    (root / split.name).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    mask_annotations: list[dict[str, Any]] = []
    for image_id in range(NUM_IMAGES[split.name]):
        scene, digits = _render_scene(split, rng)
        file_name = f'{image_id:05d}.jpg'
        path = root / split.name / file_name
        if not cv2.imwrite(str(path), scene, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f'cannot write {str(path)!r}')
        images.append(
            {'id': image_id, 'file_name': file_name, 'width': SCENE_SIZE, 'height': SCENE_SIZE}
        )
        for label, box, ink in digits:
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': label,
                'bbox': [*box],
                'area': box[2] * box[3],
                'iscrowd': 0,
            }
            annotations.append(annotation)
            mask = {'area': int(ink.sum()), 'segmentation': _run_lengths(box, ink)}
            mask_annotations.append(annotation | mask)
    coco = {
        'info': {'description': f'digit scenes, {split.name}', **_stamp_info()},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': digit, 'name': name} for digit, name in enumerate(CLASSES)],
    }
    (root / 'annotations').mkdir(exist_ok=True)
    _annotation_file(root, split.name).write_text(json.dumps(coco))
    if masks:
        coco['annotations'] = mask_annotations
        _annotation_file(root, split.name, True).write_text(json.dumps(coco))


def _run_lengths(box: Box, ink: Array) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths of a mask, which starts with background, column by column."""
    x, y, w, h = box
    mask = np.zeros((SCENE_SIZE, SCENE_SIZE), bool)
    mask[y : y + h, x : x + w] = ink
    ends = np.flatnonzero(np.diff(mask.ravel(order='F'), prepend=False, append=not mask[-1, -1]))
    return {'size': [SCENE_SIZE, SCENE_SIZE], 'counts': np.diff(ends, prepend=0).tolist()}


def _stamp_info() -> dict[str, Any]:
    return {
        'version': str(FORMAT_VERSION),
        'source': 'Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, '
        'UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0',
    }


def _render_scene(split: Split, rng: np.random.Generator) -> tuple[Array, list[Digit]]:
    scene = _background(rng)
    count = rng.integers(NUM_DIGITS[0], NUM_DIGITS[1], endpoint=True)
    placed: list[Digit] = []
    for label in rng.choice(len(CLASSES), size=count, p=split.class_weights).tolist():
        scan = rng.choice(split.scans[label])
        ink, (x, y, w, h) = _place(scan, [digit.box for digit in placed], rng)
        region = scene[y : y + h, x : x + w]
        region += ink[..., None] * (_ink_colour(region, rng) - region)
        placed.append(Digit(label, (x, y, w, h), ink > INK_THRESHOLD))
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
    parser.add_argument('--masks', action='store_true', help='write *_masks.json, too')
    args = parser.parse_args()
    made = build(args.out, args.seed, args.masks)
    print(f'{args.out}: {"made" if made else "already there"}')


if __name__ == '__main__':
    main()
