"""A head for another number of classes than the data have is refused before anything is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import nn

_HEADS = {
    'mmdet.models.dense_heads.base_dense_head': 'BaseDenseHead',
    'mmdet.models.dense_heads.base_mask_head': 'BaseMaskHead',
    'mmdet.models.roi_heads.bbox_heads.bbox_head': 'BBoxHead',
    'mmdet.models.roi_heads.mask_heads.fcn_mask_head': 'FCNMaskHead',
}
"""The classes of mmdet whose ``num_classes`` is the number of classes to detect, by module."""
_PROPOSALS = {'mmdet.models.dense_heads.rpn_head': 'RPNHead'}


@HOOKS.register_module()
class NumClassesHook(Hook):
    """Stops before the first iteration where a head and the data have different classes.

    Too small a ``num_classes`` trains the last classes as background without a word; too large a
    one fails in the first validation. The data are those that are trained, validated or tested on.

    Heads that only propose regions have one class, and those of detectors with a language model
    have none of their own; neither is looked at.

    Raises:
        ValueError: naming the head, both numbers and what to write.
    """

    def before_train(self, runner: Any) -> None:
        _check(runner, runner.train_loop, 'training')
        if runner.val_loop is not None:
            _check(runner, runner.val_loop, 'validation')

    def before_val(self, runner: Any) -> None:
        _check(runner, runner.val_loop, 'validation')

    def before_test(self, runner: Any) -> None:
        _check(runner, runner.test_loop, 'test')


def _check(runner: Any, loop: Any, split: str) -> None:
    loader = getattr(loop, 'dataloader', None)
    meta = getattr(getattr(loader, 'dataset', None), 'metainfo', None) or {}
    classes = meta.get('classes')
    if not isinstance(classes, (list, tuple)):
        return
    numbers = {len(classes), len(meta.get('thing_classes', classes))}
    for name, head in _heads(runner.model):
        if head.num_classes not in numbers:
            raise ValueError(
                f'num_classes of {name} ({type(head).__name__}) is {head.num_classes}, but the '
                f'{split} data have {len(classes)} classes: {_listed(classes)}. Write '
                f'num_classes={len(classes)} for {name} in the config, or list in metainfo of all '
                'data sets the classes that the head is for.'
            )


def _heads(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The heads in a model that tell classes apart, by name."""
    detector: Any = model.module if is_model_wrapper(model) else model
    if hasattr(detector, 'language_model'):
        return
    heads, proposals = _imported(_HEADS), _imported(_PROPOSALS)
    for name, module in detector.named_modules():
        proposes = isinstance(module, proposals) or 'rpn_head' in name.split('.')
        counts = isinstance(getattr(module, 'num_classes', None), int)
        if isinstance(module, heads) and counts and not proposes:
            yield name, module


def _imported(kinds: Mapping[str, str]) -> tuple[type, ...]:
    """Those of some classes whose module has been imported: no model can have the others."""
    return tuple(
        getattr(sys.modules[module], name)
        for module, name in kinds.items()
        if module in sys.modules
    )


def _listed(classes: Any, most: int = 20) -> str:
    shown = ', '.join(map(str, classes[:most]))
    return shown if len(classes) <= most else f'{shown} and {len(classes) - most} more'
