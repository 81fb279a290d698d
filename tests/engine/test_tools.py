"""The command-line tools, end to end on the tiny detector."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

import mmdet
import torch

from helpers.tiny_runs import ROOT, environment, run, run_quickly, write_training
from mmfocalx.engine import is_whole, tools

TRAIN, TEST = ROOT / 'tools/train.py', ROOT / 'tools/test.py'


class TouchOnLoad:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch {self.mark}',)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The config of a training that ran, from a clone, outside of it, one checkpoint kept."""
    root = tmp_path_factory.mktemp('trained')
    config = write_training(root, epochs=2, keep=1)
    run(TRAIN, config, '--auto-scale-lr')
    return config


@pytest.fixture(scope='module')
def checkpoint(trained):
    (path,) = (trained.parent / 'work').glob('*.pth')
    return path


def scores(text):
    return re.findall(r'bbox_mAP_copypaste: (.+)', text)


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def test_train_leaves_one_whole_checkpoint(checkpoint):
    assert checkpoint.name == 'epoch_2.pth'
    assert is_whole(checkpoint)
    assert not list(checkpoint.parent.glob('*.part'))


def test_mmdets_own_tool_and_ours_agree(trained, checkpoint, tmp_path):
    """mmdet's in a process of its own, which imports mmfocalx through the config alone."""
    own = Path(mmdet.__file__).parent / '.mim/tools/test.py'
    theirs = run(own, trained, checkpoint, '--work-dir', tmp_path, PYTHONPATH=str(ROOT))
    assert 'Falling back to weights_only=False' not in theirs
    log = tmp_path / 'log'
    assert run_quickly(TEST, trained, checkpoint, '--work-dir', tmp_path, log=log) == 0
    assert scores(log.read_text()) == scores(theirs) != []


@pytest.mark.parametrize('options', [(), ('--tta',)])
def test_predictions_and_pictures_without_a_display(trained, checkpoint, tmp_path, options):
    log = tmp_path / 'log'
    out = tmp_path / 'out.pkl'
    arguments = (*options, '--out', out, '--show-dir', 'shown', '--work-dir', tmp_path)
    assert run_quickly(TEST, trained, checkpoint, *arguments, log=log) == 0, log.read_text()
    assert len(pickle.loads(out.read_bytes())) == 8
    assert len(list(tmp_path.glob('*/shown/*.jpg'))) == 8
    assert scores(log.read_text())


def test_untrusted_checkpoint_is_refused_unless_trusted(trained, checkpoint, tmp_path):
    mark, log, path = tmp_path / 'mark', tmp_path / 'log', tmp_path / 'other.pth'
    content = torch.load(checkpoint, weights_only=False)
    torch.save({**content, 'extra': TouchOnLoad(mark)}, path)
    arguments = (trained, path, '--work-dir', tmp_path)
    assert run_quickly(TEST, *arguments, log=log) != 0
    assert 'posix.system' in log.read_text()
    assert '--trust-checkpoint' in log.read_text()
    resume = (trained, '--resume', path, '--work-dir', tmp_path)
    assert run_quickly(TRAIN, *resume, log=log) != 0
    assert 'posix.system' in log.read_text()
    assert not mark.exists()
    assert run_quickly(TEST, *arguments, '--trust-checkpoint', log=log) == 0, log.read_text()
    assert mark.exists()


def test_resume_starts_anew_where_nothing_is_trained(trained, tmp_path):
    log = tmp_path / 'log'
    arguments = ('--resume', '--work-dir', tmp_path / 'new', '--cfg-options', 'log_level=INFO')
    assert run_quickly(TRAIN, trained, *arguments, log=log) == 0, log.read_text()
    assert 'training starts anew' in log.read_text()
    assert (tmp_path / 'new/epoch_2.pth').is_file()


def test_resume_among_torn_checkpoints_touches_nothing(trained, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK\3\4torn')
    log = tmp_path / 'log'
    assert run_quickly(TRAIN, trained, '--resume', '--work-dir', tmp_path, log=log) != 0
    assert f'{tmp_path}/epoch_1.pth' in log.read_text()
    assert (tmp_path / 'epoch_1.pth').read_bytes() == b'PK\3\4torn'
    assert not (tmp_path / 'epoch_2.pth').exists()


def test_two_ranks_on_the_cpu(trained, checkpoint, tmp_path):
    train = run(ROOT / 'tools/dist_train.sh', trained, 2, '--work-dir', tmp_path, PORT=free_port())
    assert 'GPU number: 2' in train
    assert is_whole(tmp_path / 'epoch_2.pth')
    test = run(
        ROOT / 'tools/dist_test.sh', trained, checkpoint, 2, '--work-dir', tmp_path,
        PORT=free_port(),
    )  # fmt: skip
    log = tmp_path / 'log'
    assert run_quickly(TEST, trained, checkpoint, '--work-dir', tmp_path, log=log) == 0
    assert scores(test) == scores(log.read_text()) != []


RANK = """
import importlib.util, sys
from mmfocalx.engine import tools
mmdet = importlib.util.spec_from_loader('mmdet', None, is_package=True)
mmdet.submodule_search_locations.append(sys.argv.pop())
tools.find_spec = lambda name: mmdet
tools.run('tool.py')
"""


@pytest.mark.parametrize(
    ('end', 'code', 'printed'),
    [('', 0, ['exit function']), ('raise OSError', 1, ['exit function', 'destroyed'])],
)
def test_a_finished_rank_ends_before_the_interpreter_is_taken_down(tmp_path, end, code, printed):
    tool = tmp_path / '.mim/tools/tool.py'
    tool.parent.mkdir(parents=True)
    tool.write_text(
        'import atexit, builtins\n'
        'class Group:\n'
        '    def __del__(self): print("destroyed")\n'
        'builtins.group = Group()\n'
        f'atexit.register(print, "exit function")\n{end}\n'
    )
    ranks = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port())
    done = subprocess.run(
        [sys.executable, '-c', RANK, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(CUDA_VISIBLE_DEVICES='', **ranks),
    )
    assert done.returncode == code
    assert done.stdout.splitlines()[-len(printed) :] == printed


def test_help_shows_both_sets_of_options(tmp_path):
    log = tmp_path / 'log'
    run_quickly(TRAIN, '--help', log=log)
    for option in ('--trust-checkpoint', '--resume', '--amp', '--auto-scale-lr', '--cfg-options'):
        assert option in log.read_text()


def test_mmdet_without_its_tools_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(
        tools, 'find_spec', lambda name: importlib.util.spec_from_loader(name, None, origin='x')
    )
    monkeypatch.setattr(sys, 'argv', ['train.py'])
    with pytest.raises(FileNotFoundError, match='installed without its tools'):
        tools.run('train.py')


class TestLastingBackend:
    def test_a_file_is_never_half_written(self, tmp_path, monkeypatch):
        path = tmp_path / 'epoch_1.pth'
        backend = tools.LastingBackend()
        backend.put(b'old', path)

        def fail(descriptor):
            raise OSError('no space left')

        monkeypatch.setattr(os, 'fsync', fail)
        with pytest.raises(OSError, match='no space'):
            backend.put(b'new', path)
        assert path.read_bytes() == b'old'

    def test_an_outdated_checkpoint_goes_when_its_successor_is_there(self, tmp_path):
        old, new, other = (tmp_path / name for name in ('1.pth', '2.pth', 'log.json'))
        backend = tools.LastingBackend()
        backend.put(b'old', old)
        backend.remove(old)
        backend.put(b'{}', other)
        assert old.exists()
        tools.LastingBackend().put(b'new', new)  # MMEngine removes with one, writes with another
        assert not old.exists()
        assert new.read_bytes() == b'new'

    def test_an_outdated_checkpoint_written_again_stays(self, tmp_path):
        path = tmp_path / '1.pth'
        backend = tools.LastingBackend()
        backend.put(b'old', path)
        backend.remove(path)
        backend.put(b'new', path)
        assert path.read_bytes() == b'new'

    def test_other_files_go_at_once(self, tmp_path):
        path = tmp_path / 'log.json'
        path.write_text('{}')
        tools.LastingBackend().remove(path)
        assert not path.exists()
