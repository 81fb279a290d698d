"""An exported detector finds in onnxruntime the boxes that it finds in PyTorch."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint
from mmengine.structures import InstanceData
from PIL import Image
from torch import Tensor

pytest.importorskip('mmdet')

from mmdet.models.detectors import DETR, TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

from mmfocalx import config_path
from mmfocalx.engine import export as exporting

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

pytestmark = pytest.mark.filterwarnings('ignore')

WIDTH, HEIGHT = 96, 64
CONFIGS = {
    'retinanet': 'retinanet/retinanet_r18-w16_fpn_varifocal_12e_bccd.py',
    'fcos': 'fcos/fcos_r18-w16_fpn_varifocal_12e_bccd.py',
    'fcos-without-centerness': 'fcos/fcos_r18-w16_fpn_equalized-focal_12e_digit-scenes.py',
    'efficientnet-lite0': 'fcos/fcos_efficientnet-lite0_fpn_focal_12e_bccd.py',
}


@pytest.fixture(scope='module', autouse=True)
def _scope() -> None:
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def config_of(kind: str) -> Config:
    config = Config.fromfile(config_path(CONFIGS[kind]))
    config.model.backbone.init_cfg = None
    config.model.test_cfg.score_thr = 0.0
    if kind == 'fcos-without-centerness':
        config.model.bbox_head.centerness = False
    return config


def with_random_heads(detector: Any) -> Any:
    """A detector whose boxes and scores differ from place to place, as after a training."""
    g = torch.Generator().manual_seed(1)
    for name, parameter in detector.bbox_head.named_parameters():
        if name.endswith(('retina_cls.weight', 'conv_cls.weight')):
            parameter.data = torch.randn(parameter.shape, generator=g) * 0.1
        elif name.endswith('retina_reg.weight'):
            parameter.data = torch.randn(parameter.shape, generator=g) * 0.01
        elif name.endswith(('conv_reg.weight', 'conv_centerness.weight')):
            parameter.data = torch.randn(parameter.shape, generator=g) * 0.03
    return detector


def build(kind: str) -> Any:
    torch.manual_seed(0)
    return with_random_heads(MODELS.build(config_of(kind).model)).eval()


def images(count: int) -> Tensor:
    g = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, HEIGHT, WIDTH, generator=g)


def metas(count: int) -> list[dict[str, Any]]:
    """Images that were halved in size."""
    shape = dict(img_shape=(HEIGHT, WIDTH), ori_shape=(2 * HEIGHT, 2 * WIDTH))
    return [dict(scale_factor=(0.5, 0.5), **shape) for _ in range(count)]


def take_a_training_step(detector: Any) -> None:
    detector.train()
    sample = DetDataSample(metainfo=dict(metas(1)[0], pad_shape=(HEIGHT, WIDTH)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 40.0, 40.0]]), labels=torch.tensor([1])
    )
    detector.loss(images(1), [sample])
    detector.eval()


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """Each detector after a step of training, and its file."""
    folder = tmp_path_factory.mktemp('exported')
    made = {}
    for kind in CONFIGS:
        detector = build(kind)
        take_a_training_step(detector)
        made[kind] = (detector, folder / f'{kind}.onnx')
        exporting.export(*made[kind], (WIDTH, HEIGHT))
    return made


@pytest.mark.parametrize('kind', CONFIGS)
def test_boxes_are_those_of_pytorch(kind: str, files: dict[str, tuple[Any, Path]]) -> None:
    detector, file = files[kind]
    session = exporting.open_session(file)
    for count in (1, 3):
        found = exporting.detect(session, detector, images(count), metas(count))
        samples = [DetDataSample(metainfo=meta) for meta in metas(count)]
        with torch.no_grad():
            expected = detector.predict(images(count), samples, rescale=True)
        for ours, theirs in zip(found, expected, strict=True):
            theirs = theirs.pred_instances
            assert len(ours) == len(theirs) == 50
            assert torch.equal(ours.labels, theirs.labels)
            torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=0, atol=1e-4)
            torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-4)
            assert len(theirs.bboxes.round().unique(dim=0)) > 30  # no heap of equal boxes


@pytest.mark.parametrize('kind', CONFIGS)
def test_outputs_are_the_raw_ones_by_name(kind: str, files: dict[str, tuple[Any, Path]]) -> None:
    session = exporting.open_session(files[kind][1])
    kinds = ['cls_scores', 'bbox_preds', 'score_factors']
    if kind in ('retinanet', 'fcos-without-centerness'):
        kinds = kinds[:2]
    names = [f'{name}_{level}' for name in kinds for level in range(3)]
    assert [output.name for output in session.get_outputs()] == names
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape[1:]) == ('images', [3, HEIGHT, WIDTH])
    for output, level in zip(session.get_outputs(), [0, 1, 2] * len(kinds), strict=True):
        assert output.shape[2:] == [HEIGHT // 8 >> level, WIDTH // 8 >> level]


@pytest.mark.parametrize('kind', ['retinanet', 'fcos'])
def test_our_heads_leave_the_graph_of_mmdets(
    kind: str, files: dict[str, tuple[Any, Path]], tmp_path: Path
) -> None:
    config = config_of(kind).model
    config.bbox_head.type = config.bbox_head.type.removesuffix('X')
    del config.bbox_head['quality']
    config.bbox_head.loss_cls = dict(type='FocalLoss', use_sigmoid=True)
    ours, file = files[kind]
    theirs = MODELS.build(config).eval()
    theirs.load_state_dict(ours.state_dict())
    exporting.export(theirs, tmp_path / 'mmdet.onnx', (WIDTH, HEIGHT))

    def contents(file: Path) -> tuple[Counter[str], Counter[tuple[int, ...]]]:
        graph = onnx.load(file).graph
        operators = Counter(node.op_type for node in graph.node)
        return operators, Counter(tuple(tensor.dims) for tensor in graph.initializer)

    assert contents(file) == contents(tmp_path / 'mmdet.onnx')


def test_nothing_of_a_loss_with_state_is_in_the_file(files: dict[str, tuple[Any, Path]]) -> None:
    detector, file = files['fcos-without-centerness']
    assert any('pos_grad' in name for name, _ in detector.named_buffers())
    text = str(onnx.load(file))
    assert not {word for word in ('loss', 'grad', '.py', 'detector') if word in text.lower()}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The command line that exports a RetinaNet, with an image that is resized and padded."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 75, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    config = config_of('retinanet')
    for step in config.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (WIDTH, HEIGHT)
    config.dump(tmp_path / 'config.py')
    checkpoint = tmp_path / 'epoch_1.pth'
    save_checkpoint(dict(state_dict=build('retinanet').state_dict(), meta={}), str(checkpoint))
    image = ['--image', str(tmp_path / 'a.png')]
    out = ['--out', str(tmp_path / 'new/detector.onnx')]
    return [str(tmp_path / 'config.py'), str(checkpoint), *out, *image]


def test_the_tool_exports_and_compares(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert exporting.main(command) == 0
    printed = capsys.readouterr().out
    assert 'images of 96 x 64' in printed and '50 boxes' in printed and '50 in PyTorch' in printed
    detect = exporting.detect

    def moved(*args: Any) -> list[InstanceData]:
        (found,) = detect(*args)
        found.bboxes += 0.02
        return [found]

    monkeypatch.setattr(exporting, 'detect', moved)
    monkeypatch.setattr(exporting, 'export', lambda *args: None)  # the file is there
    assert exporting.main(command) == 1
    assert 'largest difference 0.02' in capsys.readouterr().out


def test_a_checkpoint_of_another_model_is_refused(command: list[str], tmp_path: Path) -> None:
    state = build('fcos').state_dict()
    save_checkpoint(dict(state_dict=state, meta={}), str(tmp_path / 'epoch_1.pth'))
    with pytest.raises(RuntimeError, match=r'bbox_head\.retina_cls\.weight'):
        exporting.main(command)


@pytest.mark.parametrize('name', ['onnx', 'onnxruntime', 'onnxscript'])
def test_a_missing_package_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f'pip install {name}$'):
        exporting.export(build('retinanet'), tmp_path / 'a.onnx', (WIDTH, HEIGHT))


@pytest.mark.parametrize('base', [TwoStageDetector, DETR, torch.nn.Module])
def test_a_detector_of_another_kind_is_refused(base: type) -> None:
    detector = base.__new__(base)
    with pytest.raises(TypeError, match=rf'`detector`.*SingleStageDetector.*{base.__name__}'):
        exporting.RawOutputs(detector)


@pytest.mark.parametrize(
    'found',
    [
        dict(bboxes=torch.zeros(1, 4), scores=torch.zeros(1), labels=torch.zeros(1)),
        dict(bboxes=torch.zeros(2, 4), scores=torch.zeros(2), labels=torch.ones(2)),
    ],
    ids=['fewer', 'other-labels'],
)
def test_other_boxes_differ_infinitely(found: dict[str, Tensor]) -> None:
    expected = InstanceData(
        bboxes=torch.zeros(2, 4), scores=torch.zeros(2), labels=torch.tensor([0.0, 1.0])
    )
    assert exporting.largest_difference(InstanceData(**found), expected) == float('inf')
    assert exporting.largest_difference(expected, expected) == 0
    assert exporting.largest_difference(expected[:0], expected[:0]) == 0
