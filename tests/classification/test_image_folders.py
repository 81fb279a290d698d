"""Folders of classes: the right labels, odd folders and files named, classes balanced."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.registry import DATASETS

pytest.importorskip('mmcv')

import mmcv.transforms  # noqa: F401  (registers)

import mmfocalx  # noqa: F401  (registers)
import mmfocalx.classification.dataset as module

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackImageAndLabel')]
COUNTS = {'cat': 6, 'dog': 2, 'emu': 3}


def write(root: Path, split: str, counts: dict[str, int]) -> None:
    """Images whose blue channel is the place of their class, whose green one is their number."""
    for label, (name, count) in enumerate(counts.items()):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / f'{number}.png'), np.full((4, 5, 3), (label, number, 9)))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, 'train', COUNTS)
    write(tmp_path, 'val', dict.fromkeys(COUNTS, 1))
    return tmp_path


def build(root, split='train', **settings):
    settings = {'type': 'ImageFolderDataset', 'pipeline': PIPELINE, **settings}
    return DATASETS.build(dict(settings, data_root=str(root), split=split))


def labels(dataset):
    return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


def test_labels_are_the_places_of_the_folders_in_the_alphabet(root):
    dataset = build(root)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'emu')
    assert labels(dataset) == [0] * 6 + [1] * 2 + [2] * 3
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample['inputs'].shape == (3, 4, 5) and sample['inputs'].dtype == torch.uint8
        assert (sample['inputs'][0] == sample['data_samples'].gt_label).all()


def test_labels_are_the_places_in_the_classes_that_are_given(root):
    dataset = build(root, metainfo=dict(classes=('emu', 'cat', 'dog')))
    for index in range(len(dataset)):
        sample = dataset[index]
        in_file = int(sample['inputs'][0, 0, 0])
        assert sample['data_samples'].gt_label == {0: 1, 1: 2, 2: 0}[in_file]


def test_a_split_without_a_class_keeps_the_labels_of_the_training(root):
    for path in (root / 'val' / 'dog').iterdir():
        path.unlink()
    dataset = build(root, 'val', allow_empty_classes=True)
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'emu')
    assert labels(dataset) == [0, 2]


def test_a_class_only_in_val_is_named(root):
    write(root, 'val', {'zebra': 1})
    with pytest.raises(ValueError, match=r"No class of the training is \['zebra'\]"):
        build(root, 'val')


def test_a_folder_that_is_none_of_the_given_classes_is_named(root):
    with pytest.raises(ValueError, match=r"metainfo\['classes'\].*\['dog'\]"):
        build(root, metainfo=dict(classes=('cat', 'emu')))


@pytest.mark.parametrize('case', ['empty folder', 'no folder', 'no image', 'hidden images'])
def test_an_empty_class_is_named(root, case):
    settings = {}
    if case == 'no folder':
        settings = dict(metainfo=dict(classes=(*COUNTS, 'fox')))
    else:
        (root / 'train' / 'fox').mkdir()
    if case == 'no image':
        (root / 'train' / 'fox' / 'notes.txt').write_text('none yet')
    if case == 'hidden images':
        (root / 'train' / 'fox' / 'fox.gif').write_bytes(b'GIF89a')
    with pytest.raises(ValueError, match=r"Class 'fox' has no image in .*train.*\.png"):
        build(root, **settings)
    assert build(root, allow_empty_classes=True, **settings).metainfo['classes'][3] == 'fox'


def test_files_that_are_no_images_are_named_in_the_log(root, monkeypatch):
    (root / 'train' / 'cat' / 'Thumbs.db').write_bytes(b'x')
    said = []
    monkeypatch.setattr(module, 'print_log', lambda text, **kwargs: said.append(text))
    assert len(build(root)) == 11
    (line,) = said
    assert 'Thumbs.db' in line and str(root / 'train' / 'cat') in line


def test_folders_within_a_class_belong_to_it(root):
    (root / 'train' / 'dog' / 'patient7').mkdir()
    (root / 'train' / 'dog' / '0.png').rename(root / 'train' / 'dog' / 'patient7' / '0.png')
    assert Counter(labels(build(root))) == {0: 6, 1: 2, 2: 3}


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    ('content', 'reason'),
    [(b'', 'empty'), (b'no picture', 'decoded'), (None, 'FileNotFoundError')],
)
def test_an_unreadable_file_is_named(root, content, reason, split):
    dataset = build(root, split, test_mode=split == 'val')
    path = root / split / 'cat' / '0.png'
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=f'Cannot read image .*{split}/cat/0.png.*{reason}'):
        dataset[0]


def test_a_fault_of_the_pipeline_is_not_blamed_on_the_image(root):
    dataset = build(root, pipeline=[dict(type='PackImageAndLabel')])
    with pytest.raises(KeyError, match='img'):
        dataset[0]


def test_a_missing_split_is_named(root):
    with pytest.raises(FileNotFoundError, match=r'No folder .*/holdout'):
        build(root, 'holdout')
    with pytest.raises(FileNotFoundError, match=r'No folder .*/nowhere/train'):
        build(root / 'nowhere')


@pytest.mark.parametrize(('max_ratio', 'kept'), [(1, 2), (1.5, 3), (2, 4), (100, 6)])
def test_under_sampling_keeps_so_many_times_the_rarest(root, max_ratio, kept):
    found = [
        build(root, filter_cfg=dict(max_ratio=max_ratio, seed=seed)) for seed in (0, 0, 1, 2, 3)
    ]
    for dataset in found:
        expected = {label: min(count, kept) for label, count in enumerate(COUNTS.values())}
        assert Counter(labels(dataset)) == expected
    names = [
        tuple(dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
        for dataset in found
    ]
    assert len({*names[0]}) == len(names[0])
    assert names[0] == names[1]
    assert (len({*names}) > 1) == (kept < 6)


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(filter_cfg=dict(max_ratio=0.5)), ValueError, r'`filter_cfg.max_ratio`.*at least 1'),
        (dict(filter_cfg=dict(seed=1)), TypeError, r'`filter_cfg.max_ratio`.*got None'),
        (dict(filter_cfg=dict(max_ratio=1, ratio=3)), ValueError, r"`filter_cfg`.*\['ratio'\]"),
        (dict(allow_empty_classes=1), TypeError, '`allow_empty_classes`'),
        (dict(metainfo=dict(classes='cat')), ValueError, r"`metainfo\['classes'\]`.*'cat'"),
        (dict(metainfo=dict(classes=('cat', 'cat'))), ValueError, 'different names'),
    ],
)
def test_a_bad_setting_is_named(root, settings, error, message):
    with pytest.raises(error, match=message):
        build(root, **settings)


def test_wrappers_of_mmengine_know_the_classes(root):
    inner = dict(type='ImageFolderDataset', data_root=str(root), split='train', pipeline=PIPELINE)
    # 11 images: a frequency of 2/11 below 8/11 is repeated sqrt(4) times.
    balanced = ClassBalancedDataset(dict(inner), oversample_thr=8 / 11)
    counts = Counter(balanced[i]['data_samples'].gt_label for i in range(len(balanced)))
    assert counts == {0: 12, 1: 4, 2: 6}
    assert RepeatDataset(dict(inner), times=3).metainfo['classes'] == ('cat', 'dog', 'emu')


def test_mmdets_class_aware_sampler_draws_each_class_as_often(root):
    samplers = pytest.importorskip('mmdet.datasets.samplers')
    dataset = build(root, indices=list(range(9)))  # 6, 2 and 1
    sampler = samplers.ClassAwareSampler(dataset, seed=0)
    drawn = Counter(labels(dataset)[i] for i in sampler)
    assert drawn == {0: 3, 1: 3, 2: 3}


def test_the_embedded_data_are_made_when_they_are_used(tmp_path):
    pytest.importorskip('sklearn.datasets')
    settings = dict(type='ImbalancedDigits', task='binary', ratio=100)
    dataset = build(tmp_path / 'new', **settings)
    assert dataset.metainfo['classes'] == ('other', 'eight')  # background first
    assert Counter(labels(dataset)) == {0: 811, 1: 8}
    with pytest.raises(ValueError, match='Expected argument `out`'):
        build(tmp_path / 'new', **{**settings, 'ratio': 10})
