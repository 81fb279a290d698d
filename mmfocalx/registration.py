"""What `import mmfocalx` makes known to MMEngine."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

from mmfocalx import compat

BUILT_ON_MMDET = (
    ('MODELS', 'mmfocalx.models', ('FCOSHeadX', 'RetinaHeadX')),
    ('DATASETS', 'mmfocalx.datasets.coco', ('CheckedCocoDataset',)),
)
"""Registry, module and registered names of everything that cannot be imported without mmdet."""


def register() -> None:
    """Register losses, heads and datasets, and admit MMEngine's checkpoints to safe loading.

    Without a usable mmdet, the names that build on it raise the reason when they are built.

    Raises:
        ImportError: if mmengine is missing or unsupported.
    """
    compat.require('mmengine')
    import_module('mmfocalx.losses')
    import_module('mmfocalx.engine')
    obstacle = compat.explain('mmdet')
    for registry, module, names in BUILT_ON_MMDET:
        if obstacle is None:
            import_module(module)
        else:
            _register_placeholders(registry, names, obstacle)


def _register_placeholders(registry_name: str, names: tuple[str, ...], obstacle: str) -> None:
    registry = getattr(import_module('mmengine.registry'), registry_name)
    for name in names:
        if name not in registry.module_dict:
            registry.register_module(name=name, module=_placeholder(name, obstacle))


def _placeholder(name: str, obstacle: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImportError(f'{name} cannot be built: {obstacle}')

    refuse.__name__ = name
    return refuse
