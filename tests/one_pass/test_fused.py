"""The one pass over the logits equals the plain formula, and is compiled only when it must be."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from helpers.cases import (
    CASES,
    CHANNELS,
    VARIED,
    Batch,
    Case,
    each_case,
    make_batch,
    name,
    weight_shapes,
)
from mmfocalx.losses import (
    EqualizedFocalLossX,
    FocalLossX,
    PolyFocalLossX,
    VarifocalLossX,
    one_pass,
)
from mmfocalx.losses.one_pass import autograd, blocks

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
LEAD = (37,)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def value_and_gradient(
    case: Case, kwargs: dict[str, Any], batch: Batch, *, fused: bool, **call: Any
) -> tuple[Tensor, Tensor]:
    loss = case.build({**kwargs, 'fused': fused}, batch.channels)
    pred = batch.pred.detach().clone().requires_grad_()
    value = loss(pred, batch.target, batch.weight, **call)
    assert ('ValueAndGradient' in str(value.grad_fn)) == fused, value.grad_fn
    (3 * value).backward()
    assert pred.grad is not None
    return value.detach(), pred.grad


def check_fused(case: Case, kwargs: dict[str, Any], batch: Batch, **call: Any) -> None:
    got = value_and_gradient(case, kwargs, batch, fused=True, **call)
    plain = value_and_gradient(case, kwargs, batch, fused=False, **call)
    for what, one, other in zip(('value', 'gradient'), got, plain, strict=True):
        assert one.dtype == other.dtype
        error = (one.double() - other.double()).abs().max()
        allowed = TOLERANCE[batch.pred.dtype] * other.double().abs().max() + 1e-30
        assert error <= allowed, f'{what} of {case.id} {kwargs}: {error:.2e} > {allowed:.2e}'


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize(
    ('index', 'case', 'kwargs'), [(i, *v) for i, v in enumerate(VARIED)], ids=name
)
def test_every_variation(index: int, case: Case, kwargs: dict[str, Any]) -> None:
    form = case.forms[index % len(case.forms)]
    weight = weight_shapes(LEAD, CHANNELS)[index % 5]
    batch = make_batch(case, form, lead=LEAD, dtype=torch.float32, weight=weight)
    check_fused(case, kwargs, batch, avg_factor=7.0)


@each_case
def test_compiled(case: Case) -> None:
    """As a user gets it, with what can go into one pass together."""
    form = case.forms[-2]
    batch = make_batch(case, form, lead=LEAD, dtype=torch.float32, ignore=-5, weight=LEAD)
    check_fused(case, {'ignore_index': -5, 'label_smoothing': 0.1, 'loss_weight': 2.0}, batch)


OPTIONS = st.fixed_dictionaries(
    {
        'kwargs': st.fixed_dictionaries(
            {},
            optional={
                'activated': st.just(True),
                'ignore_index': st.just(-5),
                'label_smoothing': st.sampled_from([0.0, 0.25]),
                'loss_weight': st.sampled_from([0.0, 2.5]),
                'reduction': st.just('sum'),
            },
        ),
        'form': st.sampled_from(['labels', 'tuple', 'dense']),
        'weight': st.none() | st.sampled_from(weight_shapes(LEAD, CHANNELS)),
        'avg_factor': st.none() | st.just(3.5) | st.just(torch.tensor([3.5])),
        'dtype': st.sampled_from([torch.float32, torch.float64]),
    }
)


@pytest.mark.usefixtures('traced')
@given(case=st.sampled_from(CASES), options=OPTIONS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_option(case: Case, options: dict[str, Any]) -> None:
    kwargs, form = options['kwargs'], options['form']
    if form not in case.forms or (case.softmax and kwargs.get('activated')):
        form = 'labels'
    batch = make_batch(
        case,
        form,
        lead=LEAD,
        dtype=options['dtype'],
        weight=options['weight'],
        ignore=kwargs.get('ignore_index') if form != 'dense' else None,
        activated='activated' in kwargs,
    )
    call = {} if kwargs.get('reduction') == 'sum' else {'avg_factor': options['avg_factor']}
    check_fused(case, kwargs, batch, **call)


DETACHED = [(case, {'detach': True}) for case in CASES if 'detach' in case.formula.defaults]


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize(('case', 'kwargs'), [*((case, {}) for case in CASES), *DETACHED], ids=name)
def test_later_backwards(case: Case, kwargs: dict[str, Any]) -> None:
    """A second backward, also after the state moved on, and a derivative of the gradient."""
    batch = make_batch(case, case.forms[-2], lead=LEAD)
    weights = torch.rand(batch.pred.shape, dtype=torch.float64)
    results = []
    for mode in (True, False):
        loss = case.build({**kwargs, 'fused': mode})
        pred = batch.pred.clone().requires_grad_()
        value = loss(pred, batch.target)
        handed_out = torch.autograd.grad(value, pred, retain_graph=True)[0]
        first = handed_out.clone()
        handed_out.zero_()
        moved = [buffer for buffer in loss.buffers() if mode]  # autograd itself would refuse
        for buffer in moved:
            buffer.fill_(0.9)
        second = torch.autograd.grad(value, pred, retain_graph=True)[0]
        third = torch.autograd.grad(value, pred, create_graph=True)[0]
        curvature = torch.autograd.grad((third * weights).sum(), pred)[0]
        torch.testing.assert_close(second, first, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(third, first, rtol=1e-9, atol=1e-12)
        results.append((first, curvature))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures('traced')
def test_gradients_add_up_and_stay_apart() -> None:
    pred, labels = torch.randn(9, 3, requires_grad=True), torch.arange(9) % 4
    loss = FocalLossX(fused=True)
    loss(pred, labels).backward()
    assert pred.grad is not None
    once = pred.grad.clone()
    loss(pred, labels).backward()
    torch.testing.assert_close(pred.grad, 2 * once)
    kept = torch.autograd.grad(loss(pred, labels), pred)[0]
    torch.autograd.grad(loss(pred, labels), pred)[0].zero_()
    torch.testing.assert_close(kept, once)


@pytest.mark.usefixtures('traced')
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_under_autocast_and_a_loss_scaler(dtype: torch.dtype) -> None:
    """What float16 cannot hold before the scaler's factor is not lost."""
    scale = 2.0**16
    logits = (torch.randn(64, 4) * 3 - 6).to(dtype)
    grads = {}
    for mode in (True, False):
        pred = logits.clone().requires_grad_()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            value = FocalLossX(fused=mode)(pred, torch.full((64,), 4), avg_factor=100.0)
        assert value.dtype == torch.float32
        (value * scale).backward()
        grads[mode] = pred.grad.float()
        assert pred.grad.dtype == dtype
    assert (grads[False] > 0).any()
    torch.testing.assert_close(grads[True], grads[False], rtol=2e-2, atol=0)


@pytest.mark.usefixtures('traced')
def test_state_of_stateful_losses_moves_alike() -> None:
    for case in CASES:
        if case.type not in ('EqualizedFocalLossX', 'SlideLossX'):
            continue
        batch = make_batch(case, 'tuple', lead=LEAD)
        states = []
        for mode in (True, False):
            loss = case.build({'fused': mode}).train()
            for _ in range(3):
                loss(batch.pred.clone().requires_grad_(), batch.target).backward()
            states.append(loss.state_dict())
        torch.testing.assert_close(states[0], states[1])
        assert any((buffer != 0).any() for buffer in states[0].values())


@pytest.mark.parametrize('case', CASES, ids=name)
def test_block_by_block(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(case, case.forms[-2], lead=LEAD, ignore=-5, weight=LEAD)
    kwargs = {'ignore_index': -5}
    plain = value_and_gradient(case, kwargs, batch, fused=False)
    for module in (one_pass, blocks):
        monkeypatch.setattr(module, 'BLOCK', 5 * CHANNELS)
    spy = Mock(wraps=autograd.blockwise)
    monkeypatch.setattr(autograd, 'blockwise', spy)
    loss = case.build({**kwargs, 'fused': False})
    pred = batch.pred.clone().requires_grad_()
    value = loss(pred, batch.target, batch.weight)
    (3 * value).backward()
    spy.assert_called_once()
    torch.testing.assert_close((value.detach(), pred.grad), plain)


def test_whole_model_compiled_around_the_loss() -> None:
    model = nn.Linear(6, 4)
    x, labels = torch.randn(20, 6), torch.arange(20) % 5

    def step() -> Tensor:
        return FOCAL(model(x), labels, avg_factor=5.0)

    gradients = []
    for run in (step, torch.compile(step, backend='aot_eager')):
        model.zero_grad()
        run().backward()
        gradients.append(model.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize('loss', [FocalLossX(), VarifocalLossX(), PolyFocalLossX(gamma=1.5)])
def test_second_derivative_of_what_is_compiled_around_the_loss(loss: nn.Module) -> None:
    x, labels = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 2, 1])

    def value(x: Tensor) -> Tensor:
        return loss(x, labels)

    gradient, step = torch.func.grad(value), 1e-5
    moves = step * torch.eye(6, dtype=torch.float64).reshape(6, 3, 2)
    expected = torch.stack([gradient(x + move) - gradient(x - move) for move in moves]) / (2 * step)
    got = torch.compile(torch.func.hessian(value), backend='aot_eager')(x)
    torch.testing.assert_close(got.reshape(6, 3, 2), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures('traced')
def test_a_differentiable_gradient_is_collected_once() -> None:
    """Equalized focal loss counts gradients by a hook on the logits."""
    x, labels = torch.randn(9, 3), torch.arange(9) % 4
    counts = []
    for mode in (True, False):
        loss = EqualizedFocalLossX(num_classes=3, fused=mode)
        pred = x.clone().requires_grad_()
        torch.autograd.grad(loss(pred, labels), pred, create_graph=True)
        counts.append((loss.pos_grad, loss.neg_grad))
    torch.testing.assert_close(counts[0], counts[1])


FOCAL = FocalLossX()


class TunedFocal(FocalLossX):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def elementwise(self, x: Tensor, t: Any, f: Any) -> Tensor:
        return super().elementwise(x / self.temperature, t, f)


@pytest.mark.parametrize('tuned', ['parameter', 'weight', 'avg_factor'])
def test_whatever_else_is_trained_gets_its_gradient(tuned: str) -> None:
    loss = TunedFocal(fused=True)
    loss.temperature.requires_grad_(tuned == 'parameter')
    weight = torch.ones(8, requires_grad=tuned == 'weight')
    avg_factor = torch.tensor(3.0, requires_grad=tuned == 'avg_factor')
    pred = torch.randn(8, 3, requires_grad=True)
    loss(pred, torch.arange(8) % 4, weight, avg_factor).backward()
    trained = {'parameter': loss.temperature, 'weight': weight, 'avg_factor': avg_factor}[tuned]
    assert trained.grad is not None and (trained.grad != 0).all()
