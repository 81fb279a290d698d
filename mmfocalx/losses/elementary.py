r"""The transcendental functions that the formulas share.

A formula calls torch's own functions. In the compiled pass it is a single loop over the logits,
whose time goes into transcendental functions and selections, so there each function is built upon
:math:`e^{-|x|}`, which the compiler then computes once, and carries its known derivative: the first
one, by the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

PerClass = float | Tensor
Result = TypeVar('Result')

ATANH_TERMS = 7
"""Terms of the series of atanh on [0, 1/3] for a relative error of 2e-8."""


_slopes_are_known = False


def with_known_slopes(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function that needs no derivative but the first one, by the logits."""
    global _slopes_are_known
    before, _slopes_are_known = _slopes_are_known, True
    try:
        return function(*args)
    finally:
        _slopes_are_known = before


def sigmoid(x: Tensor) -> Tensor:
    r"""Probability :math:`1 / (1 + e^{-x})` of a logit."""
    if not _slopes_are_known:
        return x.sigmoid()
    p = _probability(x)
    return _with_slope(x, p, p * (1 - p))


def not_sigmoid(x: Tensor) -> Tensor:
    r"""Probability :math:`1 / (1 + e^x)` of the opposite, precise where it is small."""
    if not _slopes_are_known:
        return (-x).sigmoid()
    q = _opposite(x)
    return _with_slope(x, q, q * (q - 1))


def log_sigmoid(x: Tensor) -> Tensor:
    r"""Log-probability :math:`-\log(1 + e^{-x})` of a logit, precise at both ends."""
    if not _slopes_are_known:
        return F.logsigmoid(x)
    return _with_slope(x, x.clamp(max=0) - _log1p_of_decay(x), _opposite(x))


def log_not_sigmoid(x: Tensor) -> Tensor:
    r"""Log-probability :math:`-\log(1 + e^x)` of the opposite, precise at both ends."""
    if not _slopes_are_known:
        return F.logsigmoid(-x)
    return _with_slope(x, (-x).clamp(max=0) - _log1p_of_decay(x), -_probability(x))


def bce(x: Tensor, y: Tensor) -> Tensor:
    r"""Binary cross-entropy with logits, :math:`-y\log p - (1-y)\log(1-p)`."""
    if torch.compiler.is_compiling() and not _slopes_are_known:
        return F.binary_cross_entropy_with_logits(x, y, reduction='none')
    if not _slopes_are_known:
        return _BCE.apply(x, y)
    value = y * (-x).clamp(min=0) + (1 - y) * x.clamp(min=0) + _log1p_of_decay(x)
    return _with_slope(x, value, _probability(x) - y)


def power(base: Tensor, exponent: PerClass) -> Tensor:
    """``base ** exponent`` for base >= 0 with a finite gradient, 0 where the base vanishes."""
    eager = not _slopes_are_known
    fixed = None if isinstance(exponent, Tensor) else float(exponent)
    if fixed is not None and (fixed == 0 or fixed >= 1 if eager else fixed.is_integer()):
        return base.pow(fixed)
    tiny = torch.finfo(base.dtype).tiny
    safe = base.clamp(min=tiny)
    if eager:
        result = safe.pow(exponent)
    elif fixed is not None and (4 * fixed).is_integer():
        root = safe.sqrt()
        result = safe.pow(fixed // 1)
        result = result * root if fixed % 1 >= 0.5 else result
        result = result * root.sqrt() if fixed % 0.5 else result
    else:
        result = (exponent * safe.log()).exp()
    vanishing = base <= tiny
    if isinstance(exponent, Tensor):
        vanishing = vanishing & (exponent > 0)
    result = torch.where(vanishing, 0.0, result)
    return result if eager else _with_slope(base, result, exponent * result / safe)


def _with_slope(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """``value``, whose derivative by ``x`` is known to be ``slope``."""
    if not torch.is_grad_enabled():
        return value
    return value.detach() + (x - x.detach()) * slope.detach()


def _decay(x: Tensor) -> Tensor:
    return (-x.abs()).exp()


def _probability(x: Tensor) -> Tensor:
    decay = _decay(x)
    return torch.where(x > 0, 1.0, decay) / (1 + decay)


def _opposite(x: Tensor) -> Tensor:
    """1 - probability, precise where it is small."""
    decay = _decay(x)
    return torch.where(x > 0, decay, 1.0) / (1 + decay)


def _log1p_of_decay(x: Tensor) -> Tensor:
    r""":math:`\log(1 + u) = 2 \operatorname{atanh}(u / (2 + u))` of the decay u in [0, 1]."""
    decay = _decay(x)
    if x.dtype != torch.float32:
        return decay.log1p()
    ratio = decay / (2 + decay)
    square = ratio * ratio
    series = torch.zeros_like(square)
    for k in reversed(range(ATANH_TERMS)):
        series = series * square + 2 / (2 * k + 1)
    return ratio * series


class _BCE(torch.autograd.Function):
    """Binary cross-entropy that is precise at both ends and has one kernel's worth of backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        if_negative = x.clamp(min=0)
        return x.abs().neg_().exp_().log1p_() + torch.lerp(if_negative, if_negative - x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        by_x, by_y = ctx.needs_input_grad
        return grad * (x.sigmoid() - y) if by_x else None, -grad * x if by_y else None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor, y_tangent: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return x_tangent * (x.sigmoid() - y) - y_tangent * x
