"""A config of a recipe says what its name says; the tools train and test it, on two ranks too."""

from __future__ import annotations

import json
import pickle
import re
import socket
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS, init_default_scope

pytest.importorskip('mmdet')
pytest.importorskip('torchmetrics')
pytest.importorskip('sklearn.datasets')

import mmdet.datasets
import mmdet.models  # noqa: F401  (registers)

import mmfocalx  # noqa: F401  (registers)
from helpers.tiny_runs import ROOT, run, run_quickly

FOLDER = ROOT / 'configs/classification'
NAMES = sorted(path.name for path in FOLDER.glob('*.py'))
DATA = ('imbalanced-digits', 'imbalanced-digits-binary')
RECIPES = {
    'cross-entropy', 'weighted-cross-entropy', 'over-sampling', 'under-sampling', 'softmax-focal',
    'softmax-focal-alpha', 'sigmoid-focal',
}  # fmt: skip
ONLY_MULTICLASS = {'background-first-focal', 'label-smoothing', 'ohem'}
SOFTMAX_FOCAL = dict(type='FocalLossX', use_sigmoid=False, gamma=2.0, alpha=None)


def parts(name: str) -> tuple[str, str]:
    """Recipe and data in the name of a config."""
    found = re.fullmatch(r'classifier_r18-w16_([a-z-]+)_15e_([a-z-]+)\.py', name)
    return found[1], found[2]


def expected_loss(recipe: str, data: str, imbalance: int) -> dict:
    rare = 1 if data == DATA[1] else 3
    # n / (C n_c) of n images, n_c of class c, where the rare ones are `imbalance` times fewer.
    weights = [(1 + rare / imbalance) / (1 + rare)] + [(imbalance + rare) / (1 + rare)] * rare
    return {
        'cross-entropy': dict(type='CrossEntropyLoss', use_sigmoid=False),
        'weighted-cross-entropy': dict(
            type='CrossEntropyLoss', use_sigmoid=False, class_weight=weights
        ),
        'softmax-focal': SOFTMAX_FOCAL,
        'softmax-focal-alpha': dict(SOFTMAX_FOCAL, alpha=weights),
        'background-first-focal': dict(SOFTMAX_FOCAL, alpha=[0.25, 0.75, 0.75, 0.75]),
        'label-smoothing': dict(SOFTMAX_FOCAL, label_smoothing=0.1),
        'ohem': dict(SOFTMAX_FOCAL, ohem_ratio=0.5),
        'binary-cross-entropy': dict(type='torch.nn.BCEWithLogitsLoss'),
        'sigmoid-focal': (
            dict(type='FocalLossX', use_sigmoid=True, gamma=2.0, alpha=0.75)
            if rare == 1
            else dict(type='FocalLossX', use_sigmoid=True)
        ),
    }.get(recipe, dict(type='CrossEntropyLoss', use_sigmoid=False))


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Where all tests of this file make the data."""
    return tmp_path_factory.mktemp('digits')


@pytest.fixture(params=[10, 100])
def imbalance(request, digits, monkeypatch):
    monkeypatch.setenv('IMBALANCE', str(request.param))
    monkeypatch.setenv('IMBALANCED_DIGITS_ROOT', str(digits))
    init_default_scope('mmdet')
    return request.param


def test_every_recipe_has_its_config():
    found = {data: {r for r, d in map(parts, NAMES) if d == data} for data in DATA}
    assert found[DATA[0]] == RECIPES | ONLY_MULTICLASS
    assert found[DATA[1]] == RECIPES | {'binary-cross-entropy'}


@pytest.mark.parametrize('name', NAMES)
def test_config_says_what_its_name_says(name, imbalance, digits):
    recipe, data = parts(name)
    cfg = Config.fromfile(FOLDER / name)
    expected = expected_loss(recipe, data, imbalance)
    for key in ('class_weight', 'alpha'):
        if isinstance(expected.get(key), list):
            assert cfg.model.loss_cls.pop(key) == pytest.approx(expected.pop(key))
    assert cfg.model.loss_cls == expected
    one_logit = data == DATA[1] and recipe in ('sigmoid-focal', 'binary-cross-entropy')
    assert cfg.model.get('one_logit', False) == one_logit
    assert cfg.model.num_classes == (2 if data == DATA[1] else 4)
    task = 'binary' if data == DATA[1] else 'multiclass'
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.split, dataset.test_mode, 'filter_cfg' in dataset) == (split, True, False)
        assert dataset.data_root == f'{digits}/{task}-1to{imbalance}'


@pytest.mark.parametrize('name', NAMES)
def test_one_step(name, imbalance):
    cfg = Config.fromfile(FOLDER / name)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    picks = [dataset[i] for i in (0, 1, 2, len(dataset) - 2, len(dataset) - 1)]
    batch = {key: [pick[key] for pick in picks] for key in picks[0]}
    loss = model(**model.data_preprocessor(batch, True), mode='loss')['loss_cls']
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert model.backbone.conv1.weight.grad.any() and model.linear.weight.grad.any()


@pytest.mark.parametrize('data', DATA)
def test_resampling_makes_the_classes_equally_frequent(data, imbalance):
    def drawn(recipe):
        cfg = Config.fromfile(FOLDER / f'classifier_r18-w16_{recipe}_15e_{data}.py')
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        sampler = cfg.train_dataloader.sampler
        sampler = DATA_SAMPLERS.build(dict(sampler, dataset=dataset, seed=0))
        paths = [dataset.get_data_info(i) for i in sampler]
        return Counter(p['gt_label'] for p in paths), {p['img_path'] for p in paths}

    counts, images = drawn('cross-entropy')
    assert max(counts.values()) / min(counts.values()) == pytest.approx(imbalance, rel=0.06)
    over, over_images = drawn('over-sampling')
    assert max(over.values()) - min(over.values()) <= 1
    assert sum(over.values()) == sum(counts.values())
    under, under_images = drawn('under-sampling')
    assert len({*under.values()}) == 1
    assert len(under_images) == len(counts) * min(counts.values())
    assert under_images < images and over_images <= images
    assert sum(under.values()) == pytest.approx(sum(counts.values()), rel=0.15)


SHORT = """
_base_ = '{base}'
max_epochs = 2
train_cfg = dict(max_epochs=2, val_interval=2)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
train_dataloader = dict(batch_size=32)
"""


@pytest.fixture(scope='module')
def trained(digits, tmp_path_factory):
    """A training of two epochs through the tool."""
    folder = tmp_path_factory.mktemp('trained')
    config = folder / 'config.py'
    base = FOLDER / 'classifier_r18-w16_softmax-focal-alpha_15e_imbalanced-digits.py'
    config.write_text(SHORT.format(base=base))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('IMBALANCED_DIGITS_ROOT', str(digits))
        patch.setenv('IMBALANCE', '10')
        log, arguments = folder / 'log', (config, '--work-dir', folder / 'work')
        assert run_quickly(ROOT / 'tools/train.py', *arguments, log=log) == 0, log.read_text()
    return config


def metrics(work_dir: Path) -> dict[str, float]:
    (file,) = work_dir.glob('*/*.json')
    found = json.loads(file.read_text())
    return {key: value for key, value in found.items() if key.startswith('classification/')}


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def test_tools_train_and_test_it(trained, digits, tmp_path, monkeypatch):
    """Two ranks give the numbers of one process, and these are of the predictions in the dump."""
    monkeypatch.setenv('IMBALANCED_DIGITS_ROOT', str(digits))
    monkeypatch.setenv('IMBALANCE', '10')
    checkpoint = trained.parent / 'work/epoch_2.pth'
    one, two, log, dump = (tmp_path / name for name in ('one', 'two', 'log', 'dump.pkl'))
    arguments = (trained, checkpoint, '--work-dir', one, '--out', dump)
    assert run_quickly(ROOT / 'tools/test.py', *arguments, log=log) == 0, log.read_text()
    found = metrics(one)
    names = ['accuracy', 'macro_f1', 'auroc']
    names += [f'recall/{name}' for name in ('other', 'seven', 'eight', 'nine')]
    assert [*found] == [f'classification/{name}' for name in names]
    results = pickle.loads(dump.read_bytes())
    scores = torch.stack([result['pred_scores'] for result in results])
    labels = torch.tensor([result['gt_label'] for result in results])
    accuracy = (scores.argmax(1) == labels).double().mean().item()
    assert found['classification/accuracy'] == pytest.approx(accuracy, abs=1e-6)
    assert len(labels) == len([*digits.glob('multiclass-1to10/test/*/*.png')])

    run(ROOT / 'tools/dist_test.sh', trained, checkpoint, 2, '--work-dir', two, PORT=free_port())
    assert metrics(two) == pytest.approx(found, abs=1e-6)


def test_two_ranks_train_it(trained, digits, tmp_path):
    run(
        ROOT / 'tools/dist_train.sh', trained, 2, '--work-dir', tmp_path, PORT=free_port(),
        IMBALANCED_DIGITS_ROOT=str(digits), IMBALANCE='10',
    )  # fmt: skip
    assert (tmp_path / 'epoch_2.pth').is_file()
