"""When the pass over the logits is compiled, how often, and what happens where it cannot be."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from helpers.small_training import train
from mmfocalx.losses import FocalLossX, VarifocalLossX
from mmfocalx.losses.one_pass import compiled


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
    assert 'ValueAndGradient' in str(value.grad_fn)


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
    assert 'ValueAndGradient' not in str(small_step(FocalLossX()).grad_fn)
    assert graphs() == before


@pytest.mark.usefixtures('traced')
def test_large_calls_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', {'cpu': 24})
    before = graphs()
    assert 'ValueAndGradient' in str(small_step(FocalLossX()).grad_fn)
    assert graphs() == before + 1


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMFOCALX_FUSED', '0')
    assert 'ValueAndGradient' not in str(small_step(FocalLossX(fused=True)).grad_fn)
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
def test_a_compiler_that_lacks_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = torch.compile

    def lacking(function: Any, *, options: Any = None, **settings: Any) -> Any:
        return broken_compiler() if options else tracer(function, **settings)

    monkeypatch.setattr(torch, 'compile', lacking)
    loss = FocalLossX(fused=True)
    for _ in range(2):
        assert 'ValueAndGradient' in str(small_step(loss).grad_fn)


def test_the_compiler_knows_its_options() -> None:
    """Those that it does not know are refused, and the pass compiled without any."""
    (options,) = compiled.OPTIONS.values()
    torch.compile(small_step, options=options)
    with pytest.raises(RuntimeError, match='unknown'):
        torch.compile(small_step, options=options | {'cpp.unknown': True})


@pytest.mark.usefixtures('traced')
def test_threads_leave_no_trace_on_other_derivatives() -> None:
    """A pass knows the first derivative only; what runs beside it or later knows them all."""
    loss = FocalLossX(fused=True)
    small_step(loss)

    def steps() -> None:
        for _ in range(30):
            small_step(loss)

    def curvature() -> float:
        x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        value = FocalLossX(fused=False)(x, torch.tensor([0]))
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        return float(torch.autograd.grad(slope.sum(), x)[0])

    def slope_at(z: float) -> float:
        x = torch.full((1, 1), z, dtype=torch.float64, requires_grad=True)
        value = -0.25 * (1 - x.sigmoid()) ** 2 * x.sigmoid().log()
        return float(torch.autograd.grad(value.sum(), x)[0])

    expected = (slope_at(1e-5) - slope_at(-1e-5)) / 2e-5
    assert expected == pytest.approx(0.0998, abs=1e-4)
    threads = [threading.Thread(target=steps) for _ in range(3)]
    for thread in threads:
        thread.start()
    during = [curvature() for _ in range(20)]
    for thread in threads:
        thread.join()
    assert [*during, curvature()] == pytest.approx([expected] * 21, rel=1e-6)


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize('hooks', [save_on_cpu, partial(saved_tensors_hooks, *2 * [lambda x: x])])
def test_those_who_watch_what_is_saved_see_the_plain_formula(hooks: Any) -> None:
    """Such as checkpoints: they run the forward again for what it saved."""
    with hooks():
        assert 'ValueAndGradient' not in str(small_step(FocalLossX(fused=True)).grad_fn)


def refusing_compiler(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError('Dynamo is not supported on this Python\nand so on')


def test_one_loss_that_cannot_be_traced_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, traced: None
) -> None:
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', {'cpu': 24})
    small_step(Untraceable())
    assert 'ValueAndGradient' not in str(small_step(Untraceable()).grad_fn)
    assert 'ValueAndGradient' in str(small_step(FocalLossX()).grad_fn)


class Untraceable(FocalLossX):
    def elementwise(self, x: Tensor, t: Any, f: Any) -> Tensor:
        return super().elementwise(x, t, f) * (2.0 if x.max() > 1000 else 1.0)


@pytest.mark.parametrize(
    ('compiler', 'reason'),
    [
        (broken_compiler, 'OSError: no C++ compiler'),
        (refusing_compiler, 'RuntimeError: Dynamo is not supported on this Python'),
    ],
)
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, compiler: Any, reason: str) -> None:
    monkeypatch.setattr(torch, 'compile', compiler)
    monkeypatch.setattr(compiled, '_kernels', {})
    monkeypatch.setattr(compiled, '_told', set())
    log = Mock()
    monkeypatch.setattr(compiled, 'print_log', log)
    with pytest.raises(RuntimeError, match=r"fused=True of FocalLossX needs .*fused='auto'"):
        small_step(FocalLossX(fused=True))
    small_step(FocalLossX())
    log.assert_not_called()
    monkeypatch.setattr(compiled, 'WORTH_COMPILING', {'cpu': 24})
    for _ in range(2):
        assert small_step(FocalLossX()).isfinite()
    log.assert_called_once()
    assert log.call_args.args == (
        f'FocalLossX: eager, because torch.compile failed with {reason}.',
    )
    assert log.call_args.kwargs['level'] == logging.WARNING
