"""A tiny data set, stub tools and a config of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import stub_tools, tiny_detection


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_detection.write_dataset(tmp_path / 'data')


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    return stub_tools.write_tools(tmp_path / 'tools')


@pytest.fixture
def config(tmp_path: Path, data: Path) -> Path:
    return stub_tools.write_config(tmp_path / 'a.py', data, pause=0.01)
