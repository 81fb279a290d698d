"""A folder that one process has at a time: moved, removed and left behind meanwhile."""

import contextlib
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
    with contextlib.ExitStack() as workers:
        started = []
        for _ in range(3):
            started.append(subprocess.Popen([sys.executable, '-c', script]))
            workers.callback(started[-1].kill)
        assert [worker.wait(60) for worker in started] == [0, 0, 0]
    assert count.read_text() == '300'
    assert len(list(tmp_path.glob('moved-*'))) == 150
    assert not (tmp_path / 'scratch').exists()


@pytest.mark.parametrize('kind', ['file', 'link to a folder', 'link to nothing'])
def test_what_is_no_folder_is_named_and_kept(tmp_path, kind):
    path, precious = tmp_path / 'scratch', tmp_path / 'kept/precious'
    precious.parent.mkdir()
    precious.touch()
    if kind == 'file':
        path.touch()
    else:
        path.symlink_to('kept' if kind == 'link to a folder' else 'none')
    with pytest.raises(NotADirectoryError, match=str(path)), exclusive_folder(path):
        pass
    assert os.path.lexists(path)
    assert precious.exists()


def test_the_lock_ends_with_an_error(tmp_path, monkeypatch):
    path = tmp_path / 'scratch'
    path.mkdir()
    (path / 'left').touch()
    monkeypatch.setattr('shutil.rmtree', raise_permission_error)
    with pytest.raises(PermissionError), exclusive_folder(path):
        pass
    script = f'from mmfocalx.files import *\nwith exclusive_folder(Path({str(path)!r})): pass'
    subprocess.run([sys.executable, '-c', script], check=True, timeout=60)
    assert not path.exists()


def raise_permission_error(*args):
    raise PermissionError
