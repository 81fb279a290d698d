"""Small digit scenes."""

from __future__ import annotations

import pytest

from helpers.digit_sets import SMALL
from mmfocalx.datasets import digit_scenes


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(digit_scenes, 'NUM_IMAGES', SMALL)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits') / 'set'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_scenes, 'NUM_IMAGES', SMALL)
        assert digit_scenes.build(folder, seed=3)
    return folder
