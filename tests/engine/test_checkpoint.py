"""Checkpoints load without running code, and the newest whole one is found."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import LinearLR, MultiStepLR, OneCycleLR
from mmengine.runner import save_checkpoint

from mmfocalx.engine import (
    TornCheckpointError,
    UntrustedCheckpointError,
    checkpoint,
    is_whole,
    newest_whole_checkpoint,
)


def contents():
    """What a checkpoint of MMEngine holds, beside its tensors."""
    hub = MessageHub('checkpoint', runtime_info={'last_ckpt': 'epoch_1.pth'})
    for value in (1.0, 3.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('best_score', np.float64(0.25))
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedulers = [LinearLR(optimizer, start_factor=0.1), MultiStepLR(optimizer, milestones=[1, 2])]
    return {
        'meta': {'epoch': 1, 'iter': 2, 'dataset_meta': {'palette': np.eye(3, dtype=np.uint8)}},
        'state_dict': model.state_dict(),
        'message_hub': hub.state_dict(),
        'optimizer': optimizer.state_dict(),
        'param_schedulers': [scheduler.state_dict() for scheduler in schedulers],
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(contents(), str(path))
    return path


class Call:
    """Pickles as a call of a function, which unpickling makes."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __call__(self):
        """Only so that pickle takes a ``Call`` as the function of another one."""

    def __reduce__(self):
        return self.function, self.arguments


def saved(path, thing):
    torch.save({'state_dict': {}, 'thing': thing}, path)
    return path


@pytest.mark.parametrize('load', [checkpoint.load, torch.load], ids=['ours', 'torch'])
def test_what_mmengine_writes_loads(file, load):
    assert torch.serialization.get_unsafe_globals_in_checkpoint(file) == []
    loaded, written = load(file), contents()
    assert loaded.keys() == written.keys()
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert [history.statistics(name) for name in ('min', 'max', 'mean', 'current')] == [1, 3, 2, 3]
    assert loaded['message_hub']['runtime_info']['best_score'] == 0.25
    np.testing.assert_array_equal(loaded['meta']['dataset_meta']['palette'], np.eye(3))
    assert loaded['param_schedulers'][1]['milestones'] == {1: 1, 2: 1}


def test_a_message_hub_saved_whole_loads(tmp_path):
    hub = MessageHub('whole')
    hub.update_scalar('loss', 2.0)
    loaded = checkpoint.load(saved(tmp_path / 'hub.pth', hub))['thing']
    assert loaded.get_scalar('loss').current() == 2


@pytest.mark.parametrize('core', [b'numpy.core', b'numpy._core'])
def test_arrays_of_either_numpy_load(core):
    dumped = pickle.dumps([np.arange(3.0), np.int64(4)], protocol=2)
    here = b'numpy._core' if b'numpy._core' in dumped else b'numpy.core'
    buffer = io.BytesIO()
    torch.save([np.arange(3.0), np.int64(4)], buffer)
    source = torch.PyTorchFileReader(io.BytesIO(buffer.getvalue()))
    renamed = source.get_record('data.pkl').replace(here, core)
    target = io.BytesIO()
    with_records = torch.PyTorchFileWriter(target)
    with_records.write_record('data.pkl', renamed, len(renamed))
    with_records.write_record('byteorder', b'little', 6)
    with_records.write_end_of_file()
    target.seek(0)
    array, scalar = checkpoint.load(target)
    np.testing.assert_array_equal(array, [0, 1, 2])
    assert scalar == 4


def test_the_loader_of_mmengine_reads_its_own_file_after_the_import(file):
    """In a process that has only imported the package, as mmdet's own tools do."""
    code = f"""
import mmfocalx
from mmengine.runner import CheckpointLoader
print('epoch', CheckpointLoader.load_checkpoint({str(file)!r})['meta']['epoch'])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert 'epoch 1' in done.stdout, done.stderr
    assert 'Falling back' not in done.stdout + done.stderr


HOSTILE = {
    'system': lambda mark: Call(os.system, f'touch {mark}'),
    'eval': lambda mark: Call(eval, f'open({str(mark)!r}, "w")'),
    'getattr of os': lambda mark: Call(
        Call(getattr, Call(__import__, 'os'), 'system'), f'touch {mark}'
    ),
    'getattr of HistoryBuffer': lambda mark: Call(getattr, HistoryBuffer, '__init__'),
    'getattr of a module': lambda mark: Call(getattr, Call(__import__, 'numpy'), 'ndarray'),
    'getattr of an instance': lambda mark: Call(getattr, HistoryBuffer(), 'min'),
    'nested getattr': lambda mark: Call(
        getattr, Call(getattr, Call(getattr, HistoryBuffer, 'min'), '__globals__'), 'get'
    ),
    'getattr of a tensor': lambda mark: Call(getattr, torch.zeros(1), 'data'),
    'getattr by an odd name': lambda mark: Call(getattr, HistoryBuffer, ('min',)),
    'another method of HistoryBuffer': lambda mark: HistoryBuffer.statistics,
    'a path': lambda mark: mark,
}


@pytest.mark.parametrize('case', HOSTILE)
@pytest.mark.parametrize('load', [checkpoint.load, torch.load], ids=['ours', 'torch'])
def test_hostile_files_are_refused_and_do_not_run(tmp_path, case, load):
    mark = tmp_path / 'mark'
    path = saved(tmp_path / 'hostile.pth', HOSTILE[case](mark))
    with pytest.raises((UntrustedCheckpointError, pickle.UnpicklingError)):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize('case', ['system', 'eval', 'getattr of os'])
def test_unrestricted_loading_runs_the_hostile_files(tmp_path, case):
    mark = tmp_path / 'mark'
    torch.load(saved(tmp_path / 'hostile.pth', HOSTILE[case](mark)), weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ('thing', 'named'),
    [
        (Call(os.system, 'true'), 'posix.system'),
        (Call(getattr, HistoryBuffer, '__init__'), "builtins.getattr(HistoryBuffer, '__init__')"),
        (Call(print, 'x'), 'print'),
        (HistoryBuffer.register_statistics, 'register_statistics'),
    ],
)
def test_refusal_names_the_type_the_file_and_the_flag(tmp_path, thing, named):
    path = saved(tmp_path / 'other.pth', thing)
    with pytest.raises(UntrustedCheckpointError) as caught:
        checkpoint.load(path)
    for part in (named, str(path), '--trust-checkpoint'):
        assert part in str(caught.value)


def test_schedulers_that_hold_functions_are_refused_by_name(tmp_path):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=4)
    with pytest.raises(UntrustedCheckpointError, match='OneCycleParamScheduler'):
        checkpoint.load(saved(tmp_path / 'one_cycle.pth', scheduler.state_dict()))


def test_no_caller_can_ask_for_unrestricted_loading(tmp_path, monkeypatch):
    path = saved(tmp_path / 'other.pth', Call(os.system, 'true'))
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(UntrustedCheckpointError):
        checkpoint.load(path, weights_only=False, pickle_module=pickle)


def test_getattr_allowed_elsewhere_in_the_process_is_withdrawn(tmp_path):
    path = saved(tmp_path / 'other.pth', Call(getattr, HistoryBuffer, '__init__'))
    torch.serialization.add_safe_globals([getattr, (getattr, 'builtins.getattr'), slice])
    with pytest.raises(UntrustedCheckpointError):
        checkpoint.load(path)
    assert slice in torch.serialization.get_safe_globals()


def test_old_torch_is_told_apart(file, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    checkpoint.allow_mmengine_types()
    with pytest.raises(
        UntrustedCheckpointError, match=r'torch>=2\.6.*found torch 2\.5\.1.*--trust'
    ):
        checkpoint.load(file)


@pytest.mark.parametrize('share', [0, 1e-4, 0.5, 0.999])
def test_torn_files_are_named(file, share):
    whole = file.read_bytes()
    assert is_whole(file)
    file.write_bytes(whole[: int(share * len(whole))])
    assert not is_whole(file)
    with pytest.raises(TornCheckpointError, match=str(file)):
        checkpoint.load(file)


def test_a_file_of_the_right_length_can_be_torn(file):
    """As after a power cut: the tensor's bytes are zeros."""
    content = bytearray(file.read_bytes())
    weight = struct.pack('<2f', *contents_of(file)['state_dict']['bias'].tolist())
    start = content.index(weight)
    content[start : start + 8] = bytes(8)
    file.write_bytes(content)
    assert not is_whole(file)


def contents_of(file):
    return torch.load(file)


def write(folder, name, age, whole=True):
    path = folder / name
    saved(path, None)
    if not whole:
        path.write_bytes(path.read_bytes()[:-30])
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@pytest.mark.parametrize('pointer', [None, '', 'epoch_3.pth', '/nowhere/epoch_3.pth', '\0\xff'])
def test_newest_whole_whatever_last_checkpoint_says(tmp_path, pointer):
    write(tmp_path, 'epoch_1.pth', age=30)
    second = write(tmp_path, 'epoch_2.pth', age=20)
    write(tmp_path, 'epoch_3.pth', age=10, whole=False)
    write(tmp_path, 'epoch_12.pth', age=40)  # of an earlier training
    write(tmp_path, 'best_coco_bbox_mAP_epoch_3.pth', age=5)
    write(tmp_path, 'epoch_2-0123abcd.pth', age=4)
    (tmp_path / 'epoch_4.pth.part').write_bytes(b'PK')
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer, encoding='latin1')
    assert newest_whole_checkpoint(tmp_path) == str(second)


def test_checkpoints_in_another_folder_and_of_another_name(tmp_path):
    work, out = tmp_path / 'work', tmp_path / 'out'
    work.mkdir(), out.mkdir()
    older = write(out, 'step7of9.pth', age=20)
    newer = write(out, 'step8of9.pth', age=10, whole=False)
    (work / 'last_checkpoint').write_text(str(newer))
    assert newest_whole_checkpoint(work) == str(older)


def test_nothing_trained_yet(tmp_path):
    assert newest_whole_checkpoint(tmp_path) is None
    assert newest_whole_checkpoint(tmp_path / 'none') is None


def test_all_torn_is_an_error_that_names_them(tmp_path):
    torn = [write(tmp_path, f'epoch_{i}.pth', age=i, whole=False) for i in (1, 2)]
    with pytest.raises(TornCheckpointError) as caught:
        newest_whole_checkpoint(tmp_path)
    assert all(str(path) in str(caught.value) for path in torn)


def test_a_record_without_its_checkpoint_is_an_error(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('/gone/epoch_3.pth')
    with pytest.raises(TornCheckpointError, match='/gone/epoch_3'):
        newest_whole_checkpoint(tmp_path)
