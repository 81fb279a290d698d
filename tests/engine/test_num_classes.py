"""A head for another number of classes than the data have is an error before iteration 1."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip('mmdet')

import mmdet
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmfocalx  # noqa: F401  (registers)
from helpers.tiny_detection import write_config, write_dataset
from helpers.tiny_runs import ROOT, run_quickly
from mmfocalx.engine import NumClassesHook

OURS = ROOT / 'tools/train.py'
MMDETS = Path(mmdet.__file__).parent / '.mim/tools/train.py'


def loop(*classes: str, **meta: Any) -> SimpleNamespace:
    data = SimpleNamespace(metainfo=dict(classes=classes, **meta))
    return SimpleNamespace(dataloader=SimpleNamespace(dataset=data))


def runner(model: Any, train: Any, val: Any = None, test: Any = None) -> SimpleNamespace:
    return SimpleNamespace(model=model, train_loop=train, val_loop=val, test_loop=test)


@pytest.fixture(scope='module')
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Detectors by name of a config of mmdet, with a small backbone where they are built."""
    init_default_scope('mmdet')
    built: dict[str, Any] = {}

    def build(base: str, **head: Any) -> Any:
        if (key := f'{base}{head}') not in built:
            path = tmp_path_factory.mktemp('config') / 'a.py'
            path.write_text(f"_base_ = 'mmdet::{base}'\n")
            model = Config.fromfile(path).model
            model.backbone.init_cfg = None
            if head:
                model.bbox_head.update(head)
            built[key] = MODELS.build(model)
        return built[key]

    return build


RETINANET = '_base_/models/retinanet_r50_fpn.py'
C80 = [f'c{k}' for k in range(80)]


@pytest.mark.parametrize('type_', ['RetinaHead', 'RetinaHeadX', 'FCOSHeadX', 'ATSSHead'])
@pytest.mark.parametrize('number', [1, 2, 4, 80])
def test_both_numbers_are_said(type_: str, number: int) -> None:
    init_default_scope('mmdet')
    loss = dict(type='FocalLoss', use_sigmoid=True)
    extra = dict(quality='none') if type_.endswith('X') else {}
    model = SimpleHolder(
        MODELS.build(dict(type=type_, num_classes=number, in_channels=32, feat_channels=32,
                          loss_cls=loss, **extra))
    )  # fmt: skip
    says = (
        rf'num_classes of bbox_head \({type_}\) is {number}, but the training data have 3 classes'
    )
    with pytest.raises(ValueError, match=says) as caught:
        NumClassesHook().before_train(runner(model, loop('a', 'b', 'c')))
    assert 'a, b, c' in str(caught.value)
    assert 'Write num_classes=3 for bbox_head' in str(caught.value)
    NumClassesHook().before_train(runner(model, loop(*C80[:number])))


class SimpleHolder(mmdet.models.detectors.base.BaseDetector):
    """A detector of one head."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.bbox_head = head

    _forward = extract_feat = loss = predict = None


def test_validation_and_test_data_count_too(detectors: Any) -> None:
    model, hook = detectors(RETINANET), NumClassesHook()
    right, wrong = loop(*C80), loop('a')
    hook.before_train(runner(model, right, right))
    with pytest.raises(ValueError, match='is 80, but the validation data have 1 classes: a'):
        hook.before_train(runner(model, right, wrong))
    with pytest.raises(ValueError, match='validation data'):
        hook.before_val(runner(model, None, wrong))
    with pytest.raises(ValueError, match='test data'):
        hook.before_test(runner(model, None, None, wrong))


@pytest.mark.parametrize(
    ('base', 'name'),
    [
        ('_base_/models/faster-rcnn_r50_fpn.py', 'roi_head.bbox_head'),
        ('_base_/models/cascade-rcnn_r50_fpn.py', 'roi_head.bbox_head.0'),
        ('_base_/models/mask-rcnn_r50_fpn.py', 'roi_head.bbox_head'),
    ],
)
def test_two_stages_without_their_proposals(detectors: Any, base: str, name: str) -> None:
    model = detectors(base)
    NumClassesHook().before_train(runner(model, loop(*C80)))
    with pytest.raises(ValueError, match=f'num_classes of {name} '):
        NumClassesHook().before_train(runner(model, loop(*C80[:-1])))


def test_proposals_alone_have_no_classes(detectors: Any) -> None:
    NumClassesHook().before_train(runner(detectors('_base_/models/rpn_r50_fpn.py'), loop(*C80)))


def test_things_of_panoptic_data(detectors: Any) -> None:
    meta = dict(thing_classes=C80)
    many = loop(*C80, *'abc', **meta)
    NumClassesHook().before_train(runner(detectors(RETINANET), many))


@pytest.mark.parametrize('meta', [{}, dict(classes=None), dict(classes='person'), None])
def test_data_that_do_not_say_their_classes(detectors: Any, meta: Any) -> None:
    data = SimpleNamespace(metainfo=meta)
    unknown = SimpleNamespace(dataloader=SimpleNamespace(dataset=data))
    NumClassesHook().before_train(runner(detectors(RETINANET), unknown))


def test_a_language_model_has_the_classes(detectors: Any) -> None:
    model = SimpleHolder(detectors(RETINANET).bbox_head)
    model.language_model = None
    NumClassesHook().before_train(runner(model, loop('a')))


def a_users_config(root: Path, more: str = '') -> Path:
    """A detector of mmdet on two classes, as a user writes it."""
    config = write_config(root / 'config.py', write_dataset(root / 'data'), epochs=1)
    config.write_text(f'{config.read_text()}work_dir = {str(root / "work")!r}\n{more}')
    return config


OURS_IN_IT = """
custom_imports = dict(imports=['mmfocalx'], allow_failed_imports=False)
model.update(bbox_head=dict(model['bbox_head'], type='RetinaHeadX', quality='none'))
"""
HOOK = """
default_hooks['num_classes'] = dict(type='NumClassesHook')
"""


@pytest.mark.parametrize('number', [1, 3])
@pytest.mark.parametrize(
    ('tool', 'more'),
    [(OURS, ''), (OURS, OURS_IN_IT), (MMDETS, OURS_IN_IT + HOOK)],
    ids=['any config, our tool', 'our head, our tool', 'the hook, the tool of mmdet'],
)
def test_training_does_not_begin(tmp_path: Path, tool: Path, more: str, number: int) -> None:
    config = a_users_config(tmp_path, more)
    log = tmp_path / 'log'
    options = ('--cfg-options', f'model.bbox_head.num_classes={number}')
    assert run_quickly(tool, config, *options, log=log) != 0
    text = log.read_text()
    assert f'is {number}, but the training data have 2 classes: disc, bar' in text
    assert 'Epoch(train)' not in text


def test_training_goes_on_where_they_agree(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    assert run_quickly(OURS, a_users_config(tmp_path), log=log) == 0, log.read_text()
    assert 'Epoch(train)' in log.read_text()


DETECTORS = [
    path
    for path in sorted((ROOT / 'configs').glob('[!_]*/*.py'))
    if path.parent.name != 'classification'
]


@pytest.mark.parametrize('path', DETECTORS, ids=[path.stem for path in DETECTORS])
def test_shipped_detectors_have_the_hook(path: Path) -> None:
    hooks = Config.fromfile(path).default_hooks
    assert hooks.num_classes == dict(type='NumClassesHook')
