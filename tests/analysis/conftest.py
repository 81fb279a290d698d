from pathlib import Path

import pytest

from helpers.digit_annotations import write_annotations


@pytest.fixture(scope='session')
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('data') / 'annotations.json'
    write_annotations(path)
    return path
