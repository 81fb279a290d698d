"""The digit-scenes set: valid COCO, the same for the same seed, whole or absent."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import numpy as np
import pytest
from PIL import Image

sklearn_datasets = pytest.importorskip('sklearn.datasets')

from helpers.digit_sets import SMALL, SPLITS, coco, digests  # noqa: E402
from mmfocalx.datasets import digit_scenes  # noqa: E402

pytestmark = pytest.mark.usefixtures('few_images')


@pytest.mark.parametrize('split', SPLITS)
def test_every_box_lies_in_an_image_that_exists(root, split):
    data = coco(root, split)
    files = sorted(path.name for path in (root / split).iterdir())
    assert files == [image['file_name'] for image in data['images']]
    assert len(files) == SMALL[split]
    boxes = Counter()
    for a in data['annotations']:
        x, y, w, h = a['bbox']
        assert min(x, y) >= 0 and max(x + w, y + h) <= 192 and min(w, h) > 0
        assert a['area'] == w * h
        boxes[a['image_id']] += 1
    assert len({a['id'] for a in data['annotations']}) == len(data['annotations'])
    assert set(boxes) == {image['id'] for image in data['images']}
    assert all(2 <= n <= 8 for n in boxes.values())
    for image in data['images']:
        with Image.open(root / split / image['file_name']) as picture:
            assert picture.size == (image['width'], image['height']) == (192, 192)


@pytest.mark.parametrize('split', SPLITS)
def test_digits_hardly_overlap(root, split):
    by_image: dict[int, list[list[int]]] = {}
    for a in coco(root, split)['annotations']:
        by_image.setdefault(a['image_id'], []).append(a['bbox'])
    for boxes in by_image.values():
        masks = np.zeros((len(boxes), 192, 192), bool)
        for mask, (x, y, w, h) in zip(masks, boxes, strict=True):
            mask[y : y + h, x : x + w] = True
        for one, other in itertools.combinations(masks, 2):
            assert (one & other).sum() <= 0.05 * min(one.sum(), other.sum())


def test_pycocotools_reads_it(root):
    coco_api = pytest.importorskip('pycocotools.coco').COCO
    api = coco_api(str(root / 'annotations' / 'val.json'))
    assert len(api.getImgIds()) == SMALL['val']
    assert [c['name'] for c in api.loadCats(api.getCatIds())] == list(digit_scenes.CLASSES)


def test_ink_reaches_all_four_sides_of_a_box():
    rng = np.random.default_rng(0)
    for scan in sklearn_datasets.load_digits().images[:50].astype(np.float32) / 16:
        ink = digit_scenes._ink(scan, rng) > digit_scenes.INK_THRESHOLD
        assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()


def test_digits_stand_out_from_the_background(root):
    contrast = []
    data = coco(root, 'val')
    for image in data['images']:
        with Image.open(root / 'val' / image['file_name']) as picture:
            grey = np.asarray(picture.convert('L'), float)
        background = np.ones_like(grey, bool)
        boxes = [a['bbox'] for a in data['annotations'] if a['image_id'] == image['id']]
        for x, y, w, h in boxes:
            background[y : y + h, x : x + w] = False
        for x, y, w, h in boxes:
            contrast.append(grey[y : y + h, x : x + w].std() / grey[background].std())
    assert np.median(contrast) > 1.5


def test_scans_are_disjoint_between_splits_and_none_is_lost():
    splits = digit_scenes._splits(seed=0)
    scans = [scan.tobytes() for s in splits for part in s.scans.values() for scan in part]
    original = sklearn_datasets.load_digits().images / np.float32(16)
    assert Counter(scans) == Counter(scan.tobytes() for scan in original)
    sets = [{scan.tobytes() for part in s.scans.values() for scan in part} for s in splits]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_labels_are_those_of_the_scans():
    bunch = sklearn_datasets.load_digits()
    label = {
        (image / np.float32(16)).tobytes(): int(digit)
        for image, digit in zip(bunch.images, bunch.target, strict=True)
    }
    for split in digit_scenes._splits(seed=1):
        assert sorted(split.scans) == list(range(10))
        for digit, scans in split.scans.items():
            assert {label[scan.tobytes()] for scan in scans} == {digit}


def test_training_digits_follow_zipf_and_the_others_are_balanced():
    train, val, test = digit_scenes._splits(seed=0)
    harmonic = sum(1 / rank for rank in range(1, 11))
    np.testing.assert_allclose(train.class_weights, [1 / rank / harmonic for rank in range(1, 11)])
    np.testing.assert_allclose([val.class_weights, test.class_weights], 0.1)


def test_same_seed_same_bytes_in_another_process(root, tmp_path):
    other = tmp_path / 'set'
    script = (
        'import sys; from mmfocalx.datasets import digit_scenes as d\n'
        f'd.NUM_IMAGES = {SMALL!r}; d.build(sys.argv[1], seed=3)'
    )
    subprocess.run([sys.executable, '-c', script, str(other)], check=True)
    assert digests(other) == digests(root)


def test_another_seed_is_another_set(root, tmp_path):
    digit_scenes.build(tmp_path / 'set', seed=4)
    for split in SPLITS:
        assert coco(tmp_path / 'set', split)['annotations'] != coco(root, split)['annotations']


def test_a_finished_set_is_not_made_again(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert digit_scenes.build(root, seed=3) is False
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


def test_a_broken_build_leaves_nothing_behind(tmp_path, monkeypatch):
    render, calls = digit_scenes._render_scene, iter(range(50))

    def fail_later(*args):
        if next(calls) == 15:
            raise KeyboardInterrupt
        return render(*args)

    monkeypatch.setattr(digit_scenes, '_render_scene', fail_later)
    with pytest.raises(KeyboardInterrupt):
        digit_scenes.build(tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


def test_the_loser_of_a_race_keeps_the_winners_set(root, tmp_path, monkeypatch):
    target, write = tmp_path / 'set', digit_scenes._write_split

    def win_meanwhile(*args):
        if not target.exists():
            target.mkdir()
            (target / digit_scenes.STAMP).write_text((root / digit_scenes.STAMP).read_text())
        write(*args)

    monkeypatch.setattr(digit_scenes, '_write_split', win_meanwhile)
    assert digit_scenes.build(target, seed=3) is False
    assert [path.name for path in target.iterdir()] == [digit_scenes.STAMP]
    assert list(tmp_path.iterdir()) == [target]


STOPS_HALFWAY = f"""
import sys, time
from mmfocalx.datasets import digit_scenes

render, calls = digit_scenes._render_scene, iter(range(50))

def render_or_stop(*args):
    if next(calls) == 15:
        print('halfway', flush=True)
        time.sleep(600)
    return render(*args)

digit_scenes._render_scene = render_or_stop
digit_scenes.NUM_IMAGES = {SMALL!r}
digit_scenes.build(sys.argv[1], seed=3)
"""


@pytest.fixture
def halfway(tmp_path):
    """A process that has made half of ``tmp_path / 'set'``."""
    command = [sys.executable, '-c', STOPS_HALFWAY, str(tmp_path / 'set')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert 'halfway\n' in iter(process.stdout.readline, '')
        yield process
        process.kill()


def test_what_a_killed_build_left_goes_with_the_next_one(halfway, root, tmp_path):
    halfway.kill()
    halfway.wait()
    (left,) = tmp_path.iterdir()
    assert left.name != 'set' and any(left.rglob('*.jpg'))
    assert digit_scenes.build(tmp_path / 'set', seed=3) is True
    assert list(tmp_path.iterdir()) == [tmp_path / 'set']
    assert digests(tmp_path / 'set') == digests(root)


def test_a_set_that_is_being_made_is_waited_for_and_not_touched(halfway, root, tmp_path):
    with ThreadPoolExecutor() as pool:
        second = pool.submit(digit_scenes.build, tmp_path / 'set', 3)
        with pytest.raises(FutureTimeoutError):
            second.result(timeout=2)
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.name != 'set' and any(unfinished.rglob('*.jpg'))
        halfway.kill()
        assert second.result(timeout=60) is True
    assert list(tmp_path.iterdir()) == [tmp_path / 'set']
    assert digests(tmp_path / 'set') == digests(root)


def test_builds_at_the_same_time_make_one_set(root, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(digit_scenes.build, tmp_path / 'set', 3) for _ in range(4)]
        assert sorted(one.result(timeout=60) for one in made) == [False, False, False, True]
    assert list(tmp_path.iterdir()) == [tmp_path / 'set']
    assert digests(tmp_path / 'set') == digests(root)


def test_an_empty_folder_is_filled(tmp_path):
    assert digit_scenes.build(tmp_path / 'new' / 'set') is True
    (tmp_path / 'empty').mkdir()
    assert digit_scenes.build(tmp_path / 'empty') is True


def test_other_data_is_never_overwritten(root, tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(b'precious')
    with pytest.raises(ValueError, match=r'Expected argument `out` to be .* absent, empty'):
        digit_scenes.build(tmp_path)
    assert (tmp_path / 'photo.jpg').read_bytes() == b'precious'
    with pytest.raises(ValueError, match=r"'seed': 5.*'seed': 3.*Remove it"):
        digit_scenes.build(root, seed=5)


@pytest.mark.parametrize(
    ('seed', 'error'),
    [(-1, ValueError), (1.0, TypeError), (True, TypeError), ('0', TypeError), (None, TypeError)],
)
def test_a_bad_seed_is_named(tmp_path, seed, error):
    with pytest.raises(error, match='Expected argument `seed` to be an integer of at least 0'):
        digit_scenes.build(tmp_path / 'set', seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_scikit_learn_is_named_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        digit_scenes.build(tmp_path / 'set')
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['digit_scenes', '--out', str(root), '--seed', '3'])
    digit_scenes.main()
    assert 'already there' in capsys.readouterr().out


def test_it_can_be_made_without_mmdet_and_mmcv():
    script = (
        'import sys\n'
        'sys.modules["mmdet"] = sys.modules["mmcv"] = None\n'
        'from mmfocalx.datasets import digit_scenes\n'
        'digit_scenes._splits(0)'
    )
    subprocess.run([sys.executable, '-c', script], check=True)
