"""The embedded data: the scans of scikit-learn, as rare as asked for, whole or absent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

sklearn_datasets = pytest.importorskip('sklearn.datasets')

from mmfocalx.datasets import imbalanced_digits  # noqa: E402

CLASSES = {
    'binary': {'other': {0, 1, 2, 3, 4, 5, 6, 7, 9}, 'eight': {8}},
    'multiclass': {'other': {*range(7)}, 'seven': {7}, 'eight': {8}, 'nine': {9}},
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Each task at 1:10 and at 1:100."""
    folder = tmp_path_factory.mktemp('digits')
    found = {(task, ratio): folder / f'{task}{ratio}' for task in CLASSES for ratio in (10, 100)}
    for (task, ratio), root in found.items():
        assert imbalanced_digits.build(root, task, ratio)
    return found


def files(root: Path, split: str, name: str) -> list[Path]:
    return sorted((root / split / name).iterdir())


def digests(root: Path) -> dict[str, str]:
    found = (path for path in root.rglob('*') if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.mark.parametrize('task', CLASSES)
@pytest.mark.parametrize('ratio', [10, 100])
def test_a_rare_class_of_the_training_is_as_rare_as_asked_for(roots, task, ratio):
    root = roots[task, ratio]
    counts = {name: len(files(root, 'train', name)) for name in CLASSES[task]}
    common = counts.pop('other')
    for count in counts.values():
        assert abs(count - common / ratio) <= 0.5


@pytest.mark.parametrize('task', CLASSES)
def test_no_ratio_takes_an_image_from_val_or_test(roots, task):
    for split in ('val', 'test'):
        for name, digits in CLASSES[task].items():
            found = [[path.name for path in files(roots[task, r], split, name)] for r in (10, 100)]
            assert found[0] == found[1]
            assert len(found[0]) >= len(digits) * (35 if split == 'val' else 50)


@pytest.mark.parametrize('task', CLASSES)
def test_no_scan_is_in_two_places_and_none_is_lost_at_its_own_frequency(tmp_path, task):
    imbalanced_digits.build(tmp_path / 'set', task, ratio=1)
    numbers = [int(path.stem) for path in (tmp_path / 'set').rglob('*.png')]
    assert sorted(numbers) == list(range(1797))


@pytest.mark.parametrize('task', CLASSES)
def test_an_image_is_the_scan_of_its_number_and_its_folder_is_its_digit(roots, task):
    bunch = sklearn_datasets.load_digits()
    for name, digits in CLASSES[task].items():
        for path in files(roots[task, 10], 'train', name)[:40]:
            assert bunch.target[int(path.stem)] in digits
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert image.shape == (32, 32)
            small = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel()
            scan = bunch.images[int(path.stem)].ravel()
            assert np.corrcoef(small, scan)[0, 1] > 0.95


def test_same_seed_same_bytes_in_another_process(roots, tmp_path):
    script = (
        'import sys; from mmfocalx.datasets.imbalanced_digits import build\n'
        "build(sys.argv[1], 'binary', 100)"
    )
    subprocess.run([sys.executable, '-c', script, str(tmp_path / 'set')], check=True)
    assert digests(tmp_path / 'set') == digests(roots['binary', 100])


def test_another_seed_is_another_set(roots, tmp_path):
    imbalanced_digits.build(tmp_path / 'set', 'binary', 100, seed=1)
    assert {*digests(tmp_path / 'set')} != {*digests(roots['binary', 100])}


def test_builds_at_the_same_time_make_one_set(roots, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        made = [
            pool.submit(imbalanced_digits.build, tmp_path / 'set', 'binary', 100) for _ in range(4)
        ]
        assert sorted(one.result(timeout=60) for one in made) == [False, False, False, True]
    assert list(tmp_path.iterdir()) == [tmp_path / 'set']
    assert digests(tmp_path / 'set') == digests(roots['binary', 100])


def test_a_broken_build_leaves_nothing_behind(tmp_path, monkeypatch):
    write, calls = cv2.imwrite, iter(range(1000))
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: next(calls) < 100 and write(*args))
    with pytest.raises(OSError, match=r'cannot write .*\.png'):
        imbalanced_digits.build(tmp_path / 'set', 'binary', 100)
    assert list(tmp_path.iterdir()) == []


def test_other_data_is_never_overwritten(roots, tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(b'precious')
    with pytest.raises(ValueError, match=r'Expected argument `out` to be .* absent, empty'):
        imbalanced_digits.build(tmp_path, 'binary', 100)
    assert (tmp_path / 'photo.jpg').read_bytes() == b'precious'
    with pytest.raises(ValueError, match=r"'ratio': 10,.*'ratio': 100,.*Remove it"):
        imbalanced_digits.build(roots['binary', 100], 'binary', 10)


@pytest.mark.parametrize(
    ('wrong', 'error', 'message'),
    [
        (dict(task='digits'), ValueError, r"`task` to be one of \['binary', 'multiclass'\]"),
        (dict(ratio=0), ValueError, '`ratio` to be an integer of at least 1'),
        (dict(ratio=1.5), TypeError, '`ratio` to be an integer of at least 1'),
        (dict(seed=-1), ValueError, '`seed` to be an integer of at least 0'),
    ],
)
def test_a_bad_argument_is_named(tmp_path, wrong, error, message):
    with pytest.raises(error, match=message):
        imbalanced_digits.build(tmp_path / 'set', **{'task': 'binary', 'ratio': 10, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_scikit_learn_is_named_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        imbalanced_digits.build(tmp_path / 'set', 'binary', 100)
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'set'
    arguments = ['--task', 'multiclass', '--ratio', '10', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['imbalanced_digits', *arguments])
    imbalanced_digits.main()
    assert 'set: made' in capsys.readouterr().out
    imbalanced_digits.main()
    assert 'already there' in capsys.readouterr().out
    stamp = json.loads((out / 'imbalanced_digits.json').read_text())
    assert (stamp['task'], stamp['ratio']) == ('multiclass', 10)
