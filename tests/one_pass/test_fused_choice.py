"""When the pass over the logits is compiled, how often, and what happens where it cannot be."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import threading
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import cpu_vec_isa
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from helpers.small_training import train
from mmfocalx.losses import FocalLossX, VarifocalLossX, compiled


def graphs() -> int:
    return counters['stats']['unique_graphs']


@pytest.mark.usefixtures('traced')
def test_one_graph_for_all_sizes_and_copies() -> None:
    loss = VarifocalLossX(fused=True)
    before = graphs()

    def step(loss: nn.Module, rows: int, **call: Any) -> None:
        pred = torch.randn(rows, 6, requires_grad=True)
        loss(pred, (torch.arange(rows) % 7, torch.rand(rows)), **call).backward()
        assert pred.grad is not None and pred.grad.isfinite().all()

    for rows in (300, 2, 77, 6, 0, 1, 5000):
        step(loss, rows, avg_factor=float(rows + 1))
        step(loss, rows, avg_factor=torch.tensor([2.0 + rows]))
    step(loss, 10)
    step(loss, 10, reduction_override='sum')
    step(loss.train(False), 11)
    step(copy.deepcopy(loss), 12)
    step(pickle.loads(pickle.dumps(loss)), 13)
    step(VarifocalLossX(fused=True, loss_weight=2.0, reduction='sum'), 14)
    assert graphs() == before + 1


@pytest.mark.usefixtures('traced')
def test_a_copy_stays_fused() -> None:
    loss = pickle.loads(pickle.dumps(copy.deepcopy(FocalLossX(fused=True))))
    value = loss(torch.randn(5, 3, requires_grad=True), torch.arange(5) % 4)
    assert 'OnePass' in str(value.grad_fn)


@pytest.mark.usefixtures('traced')
def test_logits_of_one_image_are_not_contiguous() -> None:
    """As mmdet flattens a level, the rows of a single image are a transposed view."""
    maps = [torch.randn(1, 6, size, size, requires_grad=True) for size in (7, 4, 9)]
    grads = []
    before = graphs()
    for mode in (True, False):
        loss = FocalLossX(fused=mode)
        for level in maps:
            rows = level.permute(0, 2, 3, 1).reshape(-1, 3)
            loss(rows, torch.arange(len(rows)) % 4, avg_factor=9.0).backward()
        grads.append([level.grad.clone() for level in maps if level.grad is not None])
        for level in maps:
            level.grad = None
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-6, atol=1e-8)
    assert graphs() <= before + 2


def small_step(loss: nn.Module) -> Tensor:
    value: Tensor = loss(torch.randn(8, 3, requires_grad=True), torch.arange(8) % 4)
    value.backward()
    return value


def test_small_calls_are_not_compiled_by_themselves() -> None:
    before = graphs()
    assert 'OnePass' not in str(small_step(FocalLossX()).grad_fn)
    assert graphs() == before


@pytest.mark.usefixtures('traced')
def test_large_calls_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', 24)
    before = graphs()
    assert 'OnePass' in str(small_step(FocalLossX()).grad_fn)
    assert graphs() == before + 1


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMFOCALX_FUSED', '0')
    assert 'OnePass' not in str(small_step(FocalLossX(fused=True)).grad_fn)
    monkeypatch.setenv('MMFOCALX_FUSED', 'off')
    with pytest.raises(ValueError, match=r"MMFOCALX_FUSED.*'0' or '1'.*'off'"):
        small_step(FocalLossX(fused=True))


def test_the_compile_option_of_mmengine_changes_nothing(tmp_path: Path) -> None:
    asked = Config(dict(compile=dict(backend='aot_eager')))
    before = graphs()
    losses = [
        train(tmp_path / name, cfg=cfg)[0].message_hub.get_scalar('train/loss').data[0]
        for name, cfg in (('plain', None), ('compiled', asked))
    ]
    assert graphs() > before
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-5, atol=0)


def broken_compiler(*args: Any, **kwargs: Any) -> Any:
    def run(*args: Any) -> Any:
        raise OSError('no C++ compiler')

    return run


@pytest.mark.usefixtures('traced')
def test_a_compiler_that_lags_behind_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer, tried_out = torch.compile, Mock()

    def lagging(function: Any, *, options: Any = None, **settings: Any) -> Any:
        return broken_compiler() if options else tracer(function, **settings)

    monkeypatch.setattr(torch, 'compile', lagging)
    monkeypatch.setattr(cpu_vec_isa, 'valid_vec_isa_list', tried_out)
    loss = FocalLossX(fused=True)
    for _ in range(2):
        assert 'OnePass' in str(small_step(loss).grad_fn)
    tried_out.cache_clear.assert_called_once()


def test_the_compiler_knows_its_options() -> None:
    """Those that it does not know are refused, and the pass compiled without any."""
    options = compiled.PRECISE | compiled.TRUSTING
    torch.compile(small_step, options=options)
    with pytest.raises(RuntimeError, match='unknown'):
        torch.compile(small_step, options=options | {'cpp.unknown': True})


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize('known_before', [False, True])
def test_only_other_code_has_instructions_tried_out(
    monkeypatch: pytest.MonkeyPatch, known_before: bool
) -> None:
    """The trials take half a second; no pass has a use for VNNI and AMX."""

    class Tried(cpu_vec_isa.VecAVX2):
        __hash__ = object.__hash__

        @cache  # noqa: B019
        def __bool__(self) -> bool:
            self._macro = [*self._macro, 'EXTENDED']
            return bool(self.check_build('code'))

    trial = Mock(return_value=True)
    monkeypatch.setattr(cpu_vec_isa.VecISA, 'check_build', trial)
    everything, seen = [*cpu_vec_isa.supported_vec_isa_list, Tried()], []
    untried = dict(vars(everything[-1]))
    tried_out = cache(lambda: list(cpu_vec_isa.supported_vec_isa_list))
    monkeypatch.setattr(cpu_vec_isa, 'supported_vec_isa_list', everything)
    monkeypatch.setattr(cpu_vec_isa, 'valid_vec_isa_list', tried_out)
    tracer = torch.compile

    def compiler(function: Any, **settings: Any) -> Any:
        traced = tracer(function, **settings)

        def run(*args: Any) -> Any:
            seen.append({type(isa).__name__ for isa in cpu_vec_isa.valid_vec_isa_list()})
            assert everything[-1]
            return traced(*args)

        return run

    monkeypatch.setattr(torch, 'compile', compiler)
    if known_before:
        assert tried_out() == everything
    small_step(FocalLossX(fused=True))
    assert ('VecAMX' in seen[0]) == known_before
    assert 'VecAVX2' in seen[0]
    assert tried_out() == everything
    assert tried_out.cache_info().hits == (2 if known_before else 0)
    assert Tried.__bool__.cache_info().currsize == (1 if known_before else 0)
    assert trial.call_count == (1 if known_before else 0)
    assert vars(everything[-1]) == untried | ({'_macro': ANY} if known_before else {})
    assert cpu_vec_isa.VecISA.check_build is trial


def test_two_threads_leave_the_instructions_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    everything, trial = cpu_vec_isa.supported_vec_isa_list, cpu_vec_isa.VecISA.check_build
    monkeypatch.setattr(cpu_vec_isa, 'supported_vec_isa_list', everything)
    monkeypatch.setattr(cpu_vec_isa.VecISA, 'check_build', trial)
    monkeypatch.setattr(cpu_vec_isa, 'valid_vec_isa_list', cache(list))
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with compiled._without_trials():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with compiled._without_trials():
        thread.start()
        entered.wait(0.2)
    leave.set()
    thread.join()
    assert cpu_vec_isa.supported_vec_isa_list is everything
    assert cpu_vec_isa.VecISA.check_build is trial


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize('collecting', [False, True])
@pytest.mark.parametrize('works', [False, True])
def test_garbage_is_not_collected_while_compiling(
    monkeypatch: pytest.MonkeyPatch, collecting: bool, works: bool
) -> None:
    tracer, seen = torch.compile, []

    def compiler(function: Any, **settings: Any) -> Any:
        traced = tracer(function, **settings) if works else broken_compiler()

        def run(*args: Any) -> Any:
            seen.append(gc.isenabled())
            return traced(*args)

        return run

    monkeypatch.setattr(torch, 'compile', compiler)
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with nullcontext() if works else pytest.raises(RuntimeError):
            small_step(FocalLossX(fused=True))
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert not seen[0]


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize('hooks', [save_on_cpu, partial(saved_tensors_hooks, *2 * [lambda x: x])])
def test_those_who_watch_what_is_saved_see_the_plain_formula(hooks: Any) -> None:
    """Such as checkpoints: they run the forward again for what it saved."""
    with hooks():
        assert 'OnePass' not in str(small_step(FocalLossX(fused=True)).grad_fn)


def refusing_compiler(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError('Dynamo is not supported on this Python\nand so on')


def test_one_loss_that_cannot_be_traced_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, traced: None
) -> None:
    monkeypatch.setattr(compiled, '_failures', {})
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', 24)
    small_step(Untraceable())
    assert 'OnePass' not in str(small_step(Untraceable()).grad_fn)
    assert 'OnePass' in str(small_step(FocalLossX()).grad_fn)


class Untraceable(FocalLossX):
    def elementwise(self, x: Tensor, t: Any) -> Tensor:
        return super().elementwise(x, t) * (2.0 if x.max() > 1000 else 1.0)


@pytest.mark.parametrize(
    ('compiler', 'reason'),
    [
        (broken_compiler, 'OSError: no C++ compiler'),
        (refusing_compiler, 'RuntimeError: Dynamo is not supported on this Python'),
    ],
)
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, compiler: Any, reason: str) -> None:
    monkeypatch.setattr(torch, 'compile', compiler)
    monkeypatch.setattr(compiled, '_passes', {})
    monkeypatch.setattr(compiled, '_failures', {})
    monkeypatch.setattr(compiled, '_told', set())
    log = Mock()
    monkeypatch.setattr(compiled, 'print_log', log)
    with pytest.raises(RuntimeError, match=r"fused=True of FocalLossX needs .*fused='auto'"):
        small_step(FocalLossX(fused=True))
    small_step(FocalLossX())
    log.assert_called_once()
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', 24)
    for _ in range(2):
        assert small_step(FocalLossX()).isfinite()
    assert log.call_count == 2
    assert log.call_args.args == (
        f'FocalLossX: eager, because torch.compile failed with {reason}.',
    )
    assert log.call_args.kwargs['level'] == logging.WARNING
