"""A loss with state in calls that are repeated, transformed or compiled around: it moves once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

import mmfocalx.losses
from helpers.cases import CASES, CHANNELS, Case, make_batch, name

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

LOSSES: list[Callable[[], Any]] = [
    functools.partial(mmfocalx.losses.SlideLossX, momentum=0.5),
    functools.partial(mmfocalx.losses.SlideLossX, momentum=0.9, ohem_ratio=0.5),
    functools.partial(mmfocalx.losses.EqualizedFocalLossX, num_classes=CHANNELS),
    functools.partial(mmfocalx.losses.EqualizedFocalLossX, num_classes=CHANNELS, ohem_ratio=0.5),
    functools.partial(
        mmfocalx.losses.SlideLossX,
        momentum=0.5,
        loss={'type': 'EqualizedFocalLossX', 'num_classes': CHANNELS},
    ),
]
IDS = ['slide', 'slide mined', 'equalized', 'equalized mined', 'slide of equalized']
Trained = dict[str, Tensor]


class Levels(nn.Module):
    """A layer and its loss on two levels, of which one has easier rows than the other."""

    def __init__(self, loss: nn.Module, levels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, CHANNELS).double()
        self.scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.loss, self.levels = loss, levels

    def of_level(self, x: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
        # The product saves the loss itself, so that a repetition goes through all of it.
        return self.loss(self.layer(x).tanh() * 3, (labels, quality)) * self.scale.exp()

    def step(self, number: int, call: Callable[..., Tensor]) -> tuple[Tensor, Trained]:
        self.zero_grad()
        values = []
        for level in range(self.levels):
            g = torch.Generator().manual_seed(10 * number + level)
            x = torch.randn(12, 6, generator=g, dtype=torch.float64, requires_grad=True)
            labels = torch.randint(0, CHANNELS + 1, (12,), generator=g)
            quality = torch.rand(12, generator=g, dtype=torch.float64) * 0.3 + 0.1 + 0.25 * level
            values.append(call(self.of_level, x, labels, quality))
        torch.stack(values).sum().backward()
        grads = {name: p.grad.clone() for name, p in self.named_parameters()}  # type: ignore[union-attr]
        with torch.no_grad():
            for parameter in self.parameters():
                parameter -= 0.5 * parameter.grad
        state = {name: b.clone() for name, b in self.loss.named_buffers()}
        return torch.stack(values).detach(), {**grads, **state}


def directly(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
    return function(*args)


def compare(build: Callable[[], Any], call: Callable[..., Tensor], levels: int = 2) -> None:
    one, other = Levels(build(), levels), Levels(build(), levels)
    for number in range(4):
        expected, got = one.step(number, directly), other.step(number, call)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14, msg=f'step {number}')
    assert any(bool(buffer.any()) for buffer in one.loss.buffers())


@pytest.mark.parametrize('early_stop', [True, False])
@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_checkpointed(build: Callable[[], Any], early_stop: bool) -> None:
    with set_checkpoint_early_stop(early_stop):
        compare(build, functools.partial(checkpoint, use_reentrant=False))


@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_checkpointed_reentrantly(build: Callable[[], Any]) -> None:
    compare(build, functools.partial(checkpoint, use_reentrant=True), levels=1)


@pytest.mark.parametrize('build', LOSSES[:2], ids=IDS[:2])
def test_levels_checkpointed_reentrantly(build: Callable[[], Any]) -> None:
    """The repetitions come in the reverse order of the calls."""
    compare(build, functools.partial(checkpoint, use_reentrant=True), levels=3)


def test_targets_and_predictions_made_anew_in_the_repetition() -> None:
    """What is recomputed is found although none of its tensors is the same."""

    def call(function: Callable[..., Tensor], x: Tensor, *target: Tensor) -> Tensor:
        def inner(x: Tensor) -> Tensor:
            return function(x.clone(), *(part.clone() for part in target))

        return checkpoint(inner, x, use_reentrant=False)

    for build in LOSSES:
        compare(build, call, levels=3)


@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_second_backward_moves_nothing(build: Callable[[], Any]) -> None:
    loss = build()
    x = torch.randn(9, CHANNELS, requires_grad=True)
    target = torch.arange(9) % (CHANNELS + 1), torch.linspace(0.1, 0.9, 9)
    loss(x + 1, target).backward()
    value = loss(x, target)
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    state = copy.deepcopy(loss.state_dict())
    loss.eval()
    (second,) = torch.autograd.grad(value, x, retain_graph=True)
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(loss.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize('scale', [2.0**16, 2.0**-8])
@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_loss_scale_within_a_checkpoint(build: Callable[[], Any], scale: float) -> None:
    """The gradients are scaled, the values and the state are not."""
    one, other = Levels(build()), Levels(build())
    for parameter in (*one.parameters(), *other.parameters()):
        parameter.register_hook(lambda grad: grad * 0)  # both stay where they are

    def scaled(function: Callable[..., Tensor], *args: Tensor) -> Tensor:
        return _Scaled.apply(checkpoint(function, *args, use_reentrant=False), scale)

    for number in range(3):
        (expected, state), (got, other_state) = (
            one.step(number, directly),
            other.step(number, scaled),
        )
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(other_state, state, rtol=1e-12, atol=0)


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_resumed_at_any_point(build: Callable[[], Any]) -> None:
    """A state saved after any step continues as if it had never been saved."""
    call = functools.partial(checkpoint, use_reentrant=False)
    whole = Levels(build())
    records = []
    for number in range(4):
        state = copy.deepcopy(whole.state_dict())
        records.append((state, whole.step(number, call)))
    for first, (state, _) in enumerate(records):
        resumed = Levels(build())
        resumed.load_state_dict(state)
        for number in range(first, 4):
            expected = records[number][1]
            torch.testing.assert_close(resumed.step(number, directly), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_a_look_at_single_entries_moves_nothing(build: Callable[[], Any]) -> None:
    """Such as that of PAAHead, which trains on another call."""
    loss, plain = build(), build()
    x, target = torch.randn(9, CHANNELS), (torch.arange(9) % CHANNELS, torch.linspace(0.1, 0.9, 9))
    for _ in range(3):
        for one in (loss, plain):
            one(x.clone().requires_grad_(), target)
        loss(x[:4].clone().requires_grad_(), (target[0][:4], target[1][:4]), None, 1.0, 'none')
    torch.testing.assert_close(loss.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('build', LOSSES[1:4:2], ids=IDS[1:4:2])
def test_a_loss_that_is_built_unreduced_moves(build: Callable[[], Any]) -> None:
    loss = build(reduction='none')  # type: ignore[call-arg]
    state = copy.deepcopy(loss.state_dict())
    target = (torch.arange(9) % CHANNELS, torch.linspace(0.3, 0.9, 9))
    loss(torch.randn(9, CHANNELS, requires_grad=True), target).sum().backward()
    assert any(not torch.equal(state[name], b) for name, b in loss.named_buffers())


@pytest.mark.parametrize('build', LOSSES, ids=IDS)
def test_compiled_around(build: Callable[[], Any]) -> None:
    eager, around = build(), build()
    torch.compiler.reset()
    compiled = torch.compile(around, fullgraph=True, backend='aot_eager')
    target = torch.arange(12) % (CHANNELS + 1), torch.linspace(0.2, 0.9, 12)
    for step in range(3):
        preds = [
            (torch.linspace(-2, 2, 12 * CHANNELS).reshape(12, CHANNELS) + step).requires_grad_()
            for _ in range(2)
        ]
        values = [loss(x, target) for loss, x in zip((eager, compiled), preds, strict=True)]
        for value in values:
            value.backward()
        torch.testing.assert_close(values[1], values[0])
        torch.testing.assert_close(preds[1].grad, preds[0].grad)
        torch.testing.assert_close(around.state_dict(), eager.state_dict())


SETTINGS: list[dict[str, Any]] = [{}, {'ohem_ratio': 0.5}, {'ignore_index': -1}]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('settings', SETTINGS, ids=name)
@pytest.mark.parametrize('case', CASES, ids=name)
def test_gradients_of_each_sample(case: Case, settings: dict[str, Any], training: bool) -> None:
    """torch.func.vmap(grad) equals backward, sample by sample; no state moves."""
    loss = case.build(settings).train(training)
    before = copy.deepcopy(loss.state_dict())
    for form in case.forms:
        if form == 'dense' and 'ignore_index' in settings:
            continue
        batch = make_batch(case, form, lead=(5, 4), weight=(5, 4))
        parts = batch.target if isinstance(batch.target, tuple) else (batch.target,)

        def value(pred: Tensor, weight: Tensor, *parts: Tensor) -> Tensor:
            return loss(pred, parts if len(parts) == 2 else parts[0], weight)

        got = torch.func.vmap(torch.func.grad(value))(batch.pred, batch.weight, *parts)
        torch.testing.assert_close(loss.state_dict(), before, rtol=0, atol=0)
        frozen = copy.deepcopy(loss).eval()
        for i in range(5):
            pred = batch.pred[i].clone().requires_grad_()
            target = tuple(part[i] for part in parts)
            frozen(pred, target if len(target) == 2 else target[0], batch.weight[i]).backward()
            torch.testing.assert_close(got[i], pred.grad)


@pytest.mark.parametrize('case', CASES, ids=name)
def test_targets_are_checked_in_every_sample(case: Case) -> None:
    loss = case.build({})
    pred, labels = torch.zeros(3, 4, CHANNELS), torch.zeros(3, 4, dtype=torch.long)
    labels[1, 2] = -7
    with pytest.raises(ValueError, match=r'labels in 0\.\..*-7'):
        torch.func.vmap(loss)(pred, labels)
    dense = torch.zeros_like(pred)
    dense[2, 0, 1] = 1.5
    with pytest.raises(ValueError, match=r'scores in \[0, 1\].*1\.5'):
        torch.func.vmap(torch.func.grad(loss))(pred, dense)
    if not case.softmax:
        with pytest.raises(ValueError, match=r'target\[1\].*1\.5'):
            torch.func.vmap(loss)(pred, (labels.clamp(min=0), dense[..., 1]))
