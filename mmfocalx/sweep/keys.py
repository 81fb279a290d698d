"""Keys of a config: short names, those that it lacks, and what holds where it says nothing."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from mmengine import registry
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mmfocalx.errors import wrong

SHORT = {
    'gamma': '{head}.loss_cls.gamma',
    'alpha': '{head}.loss_cls.alpha',
    'loss': '{head}.loss_cls',
    'loss_weight': '{head}.loss_cls.loss_weight',
    'box_weight': '{head}.loss_bbox.loss_weight',
    'quality': '{head}.quality',
    'lr': 'optim_wrapper.optimizer.lr',
    'weight_decay': 'optim_wrapper.optimizer.weight_decay',
}
"""The settings that are searched most, and their keys."""
REGISTRIES = (
    registry.MODELS,
    registry.OPTIMIZERS,
    registry.OPTIM_WRAPPERS,
    registry.PARAM_SCHEDULERS,
    registry.LOOPS,
    registry.HOOKS,
    registry.DATASETS,
    registry.DATA_SAMPLERS,
    registry.TRANSFORMS,
    registry.TASK_UTILS,
    registry.METRICS,
)
"""Where the types of a config are looked up."""
HEADS = ('model.bbox_head', 'model.mask_head', 'model.roi_head.bbox_head')


class Keys:
    """The keys of one config.

    Args:
        config: The config, with everything merged in.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._classes: dict[str, Callable[..., Any] | None] = {}
        self._imported = False

    def head(self) -> str:
        """The key of the head whose classification loss the short names mean.

        Raises:
            ValueError: If there is none.
        """
        for head in HEADS:
            if isinstance(self._get(f'{head}.loss_cls'), Mapping):
                return head
        raise ValueError(
            f'{self.config.filename} has no loss_cls in {", ".join(HEADS)}; give the whole key'
        )

    def full(self, name: str) -> str:
        """The key of a short name, any other name as it is."""
        if name not in SHORT or name in self.config:
            return name
        key = SHORT[name]
        return key.format(head=self.head()) if '{head}' in key else key

    def value(self, key: str) -> Any:
        """What the config says, or the default of the class that takes the argument.

        Raises:
            ValueError: If there is no such key or argument; the message names the nearest.
        """
        found = self._get(key)
        if found is not _NOTHING:
            return found
        place, _, last = key.rpartition('.')
        owner = self._get(place) if place else _NOTHING
        if isinstance(owner, Mapping) and 'type' in owner:
            arguments = self.arguments(owner['type'])
            if arguments is None:
                hint = f'{owner["type"]} cannot be imported to ask for its arguments.'
                wrong('--search', f'a key of {self.config.filename}', key, hint=hint)
            if last in arguments:
                return arguments[last]
        self._refuse(key)

    def arguments(self, name: str) -> dict[str, Any] | None:
        """The arguments of a registered class with their defaults; None if there is no such."""
        owner = self.find(name)
        if owner is None:
            return None
        found: dict[str, Any] = {}
        for base in inspect.getmro(owner) if inspect.isclass(owner) else [owner]:
            if base is object:
                continue
            for parameter in inspect.signature(base).parameters.values():
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    found.setdefault(parameter.name, parameter.default)
        return found

    def find(self, name: str) -> Callable[..., Any] | None:
        """The class that a config calls by this name."""
        if name not in self._classes:
            self._import()
            self._classes[name] = _registered(name, self.config.get('default_scope') or 'mmengine')
        return self._classes[name]

    def _import(self) -> None:
        if not self._imported:
            imports = self.config.get('custom_imports') or {}
            import_modules_from_strings(imports.get('imports') or [], allow_failed_imports=True)
            self._imported = True

    def _get(self, key: str) -> Any:
        place: Any = self.config
        for part in key.split('.'):
            if isinstance(place, (list, tuple)) and part.isdigit() and int(part) < len(place):
                place = place[int(part)]
            elif isinstance(place, (Config, Mapping)) and part in place:
                place = place[part]
            else:
                return _NOTHING
        return place

    def _refuse(self, key: str) -> NoReturn:
        known = [*SHORT, *_below(self.config.to_dict())]
        place = key.rpartition('.')[0]
        owner = self._get(place) if place else None
        if isinstance(owner, Mapping) and 'type' in owner:
            known += [f'{place}.{name}' for name in self.arguments(owner['type']) or ()]
        nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f'Did you mean {nearest[0]!r}?' if nearest else f'Short names: {", ".join(SHORT)}.'
        wrong('--search', f'a key of {self.config.filename}', key, hint=hint)


_NOTHING = object()


def _below(value: Any, place: str = '') -> Iterator[str]:
    """All keys below a place of a config."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, content in items:
        yield f'{place}{key}'
        yield from _below(content, f'{place}{key}.')


def _registered(name: str, scope: str) -> Callable[..., Any] | None:
    for candidate in REGISTRIES:
        with suppress(Exception), candidate.switch_scope_and_registry(scope) as inner:
            # whatever fails to import there
            found: Callable[..., Any] | None = inner.get(name)
            if found is not None:
                return found
    return None
