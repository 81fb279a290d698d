"""What `import mmfocalx` makes known to MMEngine."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from mmfocalx import compat


class Registered(NamedTuple):
    """A module that registers names, and can be imported only where what it needs is usable."""

    module: str
    registry: str
    names: tuple[str, ...]


BUILT_ON_MMDET = (
    Registered(
        'mmfocalx.models',
        'MODELS',
        (
            'ATSSHeadX',
            'ConditionalDETRHeadX',
            'DABDETRHeadX',
            'DDQDETRHeadX',
            'DETRHeadX',
            'DINOHeadX',
            'DeformableDETRHeadX',
            'EfficientNetLite',
            'FCOSHeadX',
            'FoveaHeadX',
            'RepPointsHeadX',
            'RetinaHeadX',
        ),
    ),
    Registered('mmfocalx.datasets.coco', 'DATASETS', ('CheckedCocoDataset',)),
    Registered('mmfocalx.engine.non_finite', 'HOOKS', ('NonFiniteGuardHook',)),
    Registered('mmfocalx.engine.num_classes', 'HOOKS', ('NumClassesHook',)),
    Registered('mmfocalx.engine.warmup', 'HOOKS', ('WarmupHook',)),
)
BUILT_ON_HOTCOCO = (Registered('mmfocalx.evaluation', 'METRICS', ('ScoreQualityMetric',)),)


def register() -> None:
    """Register losses, models, datasets and metrics, and let MMEngine's checkpoints load safely.

    What cannot be imported here is registered as a placeholder that raises the reason when built.

    Raises:
        ImportError: if mmengine is missing or unsupported.
    """
    compat.require('mmengine')
    import_module('mmfocalx.losses')
    import_module('mmfocalx.engine')
    import_module('mmfocalx.classification')
    _register(BUILT_ON_MMDET, compat.explain('mmdet'))
    _register(BUILT_ON_HOTCOCO, _explain_hotcoco())


def _explain_hotcoco() -> str | None:
    try:
        for module in ('hotcoco.metrics', 'scipy.stats'):
            import_module(module)
    except ImportError as error:
        return f'{error}. To install: pip install {" ".join(compat.METRIC_PACKAGES)}'
    return None


def _register(entries: tuple[Registered, ...], obstacle: str | None) -> None:
    for entry in entries:
        if obstacle is None:
            import_module(entry.module)
            continue
        registry = getattr(import_module('mmengine.registry'), entry.registry)
        for name in entry.names:
            if name not in registry.module_dict:
                registry.register_module(name=name, module=_placeholder(name, obstacle))


def _placeholder(name: str, obstacle: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(f'{name} cannot be built: {obstacle}')

    refuse.__name__ = name
    return refuse
