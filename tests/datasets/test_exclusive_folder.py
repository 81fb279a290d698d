"""A folder that one process has at a time: moved, removed and left behind meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmfocalx.files import exclusive_folder


@pytest.fixture
def vanishes_at(monkeypatch):
    """Let the folder vanish once, when a function of `os` has been, or is, called for it."""

    def install(name, path):
        real, left = getattr(os, name), [1]

        def call(where, *args, **kwargs):
            ours = Path(where) == path and bool(left)
            if ours and name == 'open':
                left.pop()
                path.rmdir()
            try:
                return real(where, *args, **kwargs)
            except FileExistsError:
                if ours:
                    left.pop()
                    path.rmdir()
                raise

        monkeypatch.setattr(os, name, call)
        return left

    return install


@pytest.mark.parametrize('name', ['mkdir', 'open'])
def test_folder_of_another_one_vanishes(vanishes_at, tmp_path, name):
    path = tmp_path / 'scratch'
    path.mkdir()
    left = vanishes_at(name, path)
    with exclusive_folder(path) as scratch:
        assert list(scratch.iterdir()) == []
    assert not left
    assert not path.exists()


def test_processes_have_it_one_after_the_other(tmp_path):
    count = tmp_path / 'count'
    count.write_text('0')
    script = f"""
from pathlib import Path
from mmfocalx.files import exclusive_folder
count = Path({str(count)!r})
for turn in range(100):
    with exclusive_folder(Path({str(tmp_path / 'scratch')!r})) as scratch:
        (scratch / 'mine').touch()
        count.write_text(str(int(count.read_text()) + 1))
        if turn % 2:
            scratch.rename({str(tmp_path)!r} + f'/moved-{{__import__("os").getpid()}}-{{turn}}')
"""
    workers = [subprocess.Popen([sys.executable, '-c', script]) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert count.read_text() == '300'
    assert len(list(tmp_path.glob('moved-*'))) == 150
    assert not (tmp_path / 'scratch').exists()


def test_a_file_in_its_place_is_named_and_kept(tmp_path):
    path = tmp_path / 'scratch'
    path.write_bytes(b'precious')
    with pytest.raises(NotADirectoryError, match=str(path)), exclusive_folder(path):
        pass
    assert path.read_bytes() == b'precious'
