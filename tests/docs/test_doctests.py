"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import mmfocalx
from mmfocalx.losses.catalogue import losses

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(mmfocalx.__path__, prefix='mmfocalx.')
)
HAVE_EXAMPLES = [
    name for name in MODULES if '>>> ' in Path(importlib.util.find_spec(name).origin).read_text()
]


@pytest.mark.parametrize('name', HAVE_EXAMPLES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    tried = doctest.testmod(module)
    assert tried.attempted > 0
    assert tried.failed == 0


@pytest.mark.parametrize('loss', losses().values(), ids=lambda loss: loss.__name__)
def test_every_loss_has_an_example_of_its_own(loss: type) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(loss, loss.__name__)
    calls = [step.source for step in example.examples]
    assert any(f'{loss.__name__}(' in call for call in calls)
    assert any(step.want for step in example.examples)
