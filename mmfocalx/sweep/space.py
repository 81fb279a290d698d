"""The search space of a sweep: from drawn values to the options that a training takes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmengine.config import Config
from optuna import Trial

from mmfocalx.errors import wrong
from mmfocalx.sweep.keys import Keys
from mmfocalx.sweep.parameters import Parameter, product

DEFAULT_SEARCH = ('gamma', 'alpha')
"""Searched, beside the learning rate, where nothing is named: those that the loss takes."""
DEFAULT_RANGES = {'gamma': 'float:0.5:4', 'alpha': 'float:0.1:0.9'}


@dataclass(frozen=True)
class Space:
    """Parameters, and the config that they are of.

    Attributes:
        config: The config, with everything but the parameters merged in.
        parameters: What is varied; at least one.
    """

    config: Config
    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        for parameter in self.parameters:
            self.configured[parameter.name]
        keys = [self.keys.full(parameter.name) for parameter in self.parameters]
        for parameter, key in zip(self.parameters, keys, strict=True):
            if keys.count(key) > 1:
                wrong('--search', 'one KEY=VALUES for each key', f'{parameter.name} twice ({key})')
            if parameter.name == 'loss':
                self._check_losses(parameter)

    @cached_property
    def keys(self) -> Keys:
        """The keys of the config."""
        return Keys(self.config)

    @cached_property
    def configured(self) -> dict[str, Any]:
        """The settings of the config, by parameter; of a loss its type."""
        found = {p.name: self.keys.value(self.keys.full(p.name)) for p in self.parameters}
        if 'loss' in found and isinstance(found['loss'], Mapping):
            found['loss'] = found['loss']['type']
        return found

    def _check_losses(self, parameter: Parameter) -> None:
        for name in parameter.choices:
            if self.keys.find(name) is None:
                wrong('--search', 'a choice of registered losses', f'loss={name}')

    @property
    def texts(self) -> dict[str, str]:
        """The values of each parameter, in words."""
        return {parameter.name: str(parameter) for parameter in self.parameters}

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The stored values of a trial, without those that its loss does not take."""
        values: dict[str, Any] = {}
        for parameter in self._loss_first():
            if self._applies(parameter, values):
                values[parameter.name] = parameter.suggest(trial)
        return values

    def default(self) -> dict[str, Any] | None:
        """The stored values that stand for the config as it is; None if it is outside."""
        values: dict[str, Any] = {}
        for parameter in self._loss_first():
            if self._applies(parameter, values):
                values[parameter.name] = parameter.stored(self.configured[parameter.name])
        return None if None in values.values() else values

    def grid(self) -> list[dict[str, Any]]:
        """Every point, each once.

        Raises:
            ValueError: If the values of a parameter cannot be counted.
        """
        points = []
        for point in product(tuple(self._loss_first())):
            point = {
                parameter.name: point[parameter.name]
                for parameter in self.parameters
                if self._applies(parameter, point)
            }
            if point not in points:
                points.append(point)
        return points

    def options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What stored values override in the config, by key, as ``--cfg-options`` would."""
        options: dict[str, Any] = {}
        for parameter in self._loss_first():
            if parameter.name not in values:
                continue
            key, setting = self.keys.full(parameter.name), parameter.setting(values[parameter.name])
            place, _, last = key.rpartition('.')
            if parameter.name == 'loss':
                options |= self._loss(key, setting)
            elif place in options:  # of a loss that takes the place of the config's
                options[place][last] = setting
            else:
                options[key] = setting
        return options

    def _loss(self, key: str, name: str) -> dict[str, Any]:
        """A loss with its own defaults and the quality it is meant for; the config's is kept."""
        head = self.keys.head()
        if name == self.configured['loss']:
            return {}
        owner = self.keys.find(name)
        settings = {'type': name, 'use_sigmoid': self.keys.value(key).get('use_sigmoid', True)}
        if (example := getattr(owner, 'example_config', None)) is not None:
            settings |= example(self.keys.value(f'{head}.num_classes'))
        options: dict[str, Any] = {key: {'_delete_': True, **deepcopy(settings)}}
        takes_quality = 'quality' in (self.keys.arguments(self.keys.value(f'{head}.type')) or ())
        if takes_quality and 'quality' not in self.configured:
            aware = getattr(owner, 'quality_aware', False)
            options[f'{head}.quality'] = 'iou' if aware else 'none'
        return options

    def _loss_first(self) -> list[Parameter]:
        return sorted(self.parameters, key=lambda parameter: parameter.name != 'loss')

    def _applies(self, parameter: Parameter, values: Mapping[str, Any]) -> bool:
        """Whether the loss that was drawn takes the parameter."""
        if 'loss' not in values or parameter.name == 'loss':
            return True
        place, _, last = self.keys.full(parameter.name).rpartition('.')
        if place != self.keys.full('loss'):
            return True
        return last in (self.keys.arguments(values['loss']) or ())


def default_search(config: Config) -> list[str]:
    """The search of a config where none is given: gamma, alpha, and lr within a factor of ten."""
    keys = Keys(config)
    found = []
    for name in DEFAULT_SEARCH:
        try:
            if isinstance(keys.value(keys.full(name)), (int, float)):
                found.append(f'{name}={DEFAULT_RANGES[name]}')
        except ValueError:  # its loss takes no such argument
            continue
    rate = keys.value(keys.full('lr'))
    return [*found, f'lr=log:{rate / 10:g}:{rate * 10:g}']
