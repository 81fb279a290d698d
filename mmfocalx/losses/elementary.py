r"""The transcendental functions that the formulas share.

A formula calls torch's own functions. In the compiled pass it is a single loop over the logits,
whose time goes into transcendental functions and selections, so there each function is built upon
:math:`e^{-|x|}`, which the compiler then computes once, and carries its known derivative: the first
one, by the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

PerClass = float | Tensor
Result = TypeVar('Result')

NEGLIGIBLE = -60.0
"""Logarithm of the largest power that counts as 0, where each class has an exponent. Those may be
large, and what is multiplied by a power so small becomes a subnormal number, on which a CPU may
spend a hundred times the time."""

LOG1P: tuple[PerClass, ...] = (
    0.99999996988,
    -0.499994931366,
    0.333190967318,
    -0.248429816930,
    0.191060049944,
    -0.136632425023,
    0.0782259175063,
    -0.0295052199192,
    0.00523269002747,
)
"""Coefficients of the polynomial nearest to log(1 + u) / u on [0, 1]; relative error 3e-8."""


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
    fixed = x.detach()
    p = _probability(fixed)
    return _with_slope(x, fixed, p, p * (1 - p))


def not_sigmoid(x: Tensor) -> Tensor:
    r"""Probability :math:`1 / (1 + e^x)` of the opposite, precise where it is small."""
    if not _slopes_are_known:
        return (-x).sigmoid()
    fixed = x.detach()
    q = _opposite(fixed)
    return _with_slope(x, fixed, q, q * (q - 1))


def log_sigmoid(x: Tensor) -> Tensor:
    r"""Log-probability :math:`-\log(1 + e^{-x})` of a logit, precise at both ends."""
    if not _slopes_are_known:
        return F.logsigmoid(x)
    fixed = x.detach()
    value = fixed.clamp(max=0) - _log1p(_decay(fixed))
    return _with_slope(x, fixed, value, _opposite(fixed))


def log_not_sigmoid(x: Tensor) -> Tensor:
    r"""Log-probability :math:`-\log(1 + e^x)` of the opposite, precise at both ends."""
    return -softplus(x)


def softplus(x: Tensor) -> Tensor:
    r""":math:`\log(1 + e^x)`, precise at both ends: cross-entropy of a negative."""
    if not _slopes_are_known:
        return -F.logsigmoid(-x)
    fixed = x.detach()
    value = fixed.clamp(min=0) + _log1p(_decay(fixed))
    return _with_slope(x, fixed, value, _probability(fixed))


def bce(x: Tensor, y: Tensor) -> Tensor:
    r"""Binary cross-entropy with logits, :math:`-y\log p - (1-y)\log(1-p)`."""
    if torch.compiler.is_compiling() and not _slopes_are_known:
        return F.binary_cross_entropy_with_logits(x, y, reduction='none')
    if not _slopes_are_known:
        return _BCE.apply(x, y)
    fixed = x.detach()
    if_negative = fixed.clamp(min=0)
    value = y * (if_negative - fixed) + (1 - y) * if_negative + _log1p(_decay(fixed))
    return _with_slope(x, fixed, value, _probability(fixed) - y)


def log_not_sigmoid_plus(x: Tensor, not_p: Tensor, excess: float) -> Tensor:
    r""":math:`\log(1 - p + c)` for an excess c > 0, given 1 - p."""
    if not _slopes_are_known:
        return (not_p + excess).log()
    fixed = x.detach()
    decay, q = _decay(fixed), _opposite(fixed)
    # 1 - p + c = (1 + c) (e^-x + k) / (e^-x + 1), all in terms of the decay, as e^-x may overflow.
    k = excess / (1 + excess)
    ratio = torch.where(fixed > 0, decay.clamp(max=k) / decay.clamp(min=k), k * decay)
    value = _log1p(ratio) - _log1p(decay) - fixed.clamp(0, -math.log(k)) + math.log1p(excess)
    return _with_slope(x, fixed, value, q * (q - 1) / (q + excess))


def power(base: Tensor, exponent: PerClass) -> Tensor:
    """``base ** exponent`` for base >= 0 with a finite gradient, 0 where the base vanishes.

    With an exponent for each class also 0 where the power is :data:`NEGLIGIBLE`.
    """
    eager = not _slopes_are_known
    number = None if isinstance(exponent, Tensor) else float(exponent)
    if number is not None and (number == 0 or number >= 1 if eager else number.is_integer()):
        return base.pow(number)
    tiny = torch.finfo(base.dtype).tiny
    fixed = base if eager else base.detach()
    safe = fixed.clamp(min=tiny)
    if number is not None and (4 * number).is_integer():
        root = safe.sqrt()
        result = safe.pow(number // 1)
        result = result * root if number % 1 >= 0.5 else result
        result = result * root.sqrt() if number % 0.5 else result
    elif eager:
        result = safe.pow(exponent)
    else:
        result = (exponent * safe.log()).exp()
    vanishing = fixed <= tiny
    if isinstance(exponent, Tensor):
        vanishing = torch.where(vanishing, exponent > 0, exponent * safe.log() <= NEGLIGIBLE)
    result = torch.where(vanishing, 0.0, result)
    return result if eager else _with_slope(base, fixed, result, exponent * result / safe)


def _with_slope(x: Tensor, fixed: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """``value``, whose derivative by ``x`` is known to be ``slope``, both of ``fixed`` x."""
    return torch.addcmul(value, x - fixed, slope) if torch.is_grad_enabled() else value


def _decay(x: Tensor) -> Tensor:
    return (-x.abs()).exp()


def _probability(x: Tensor) -> Tensor:
    decay = _decay(x)
    likelier = 1 / (1 + decay)
    return torch.where(x > 0, likelier, decay * likelier)


def _opposite(x: Tensor) -> Tensor:
    """1 - probability, precise where it is small."""
    decay = _decay(x)
    likelier = 1 / (1 + decay)
    return torch.where(x > 0, decay * likelier, likelier)


def _log1p(u: Tensor) -> Tensor:
    """log(1 + u) of u in [0, 1]."""
    if u.dtype != torch.float32:
        return u.log1p()
    *others, quotient = LOG1P
    for coefficient in reversed(others):
        quotient = quotient * u + coefficient
    return u * quotient


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
