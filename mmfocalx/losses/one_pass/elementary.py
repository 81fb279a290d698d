r"""The transcendental functions that the formulas share, in two kinds.

A formula is given one of them. :data:`ANY_ORDER` calls torch's own functions and can be
differentiated as often as one likes. The one pass over the logits is a loop whose time goes into
transcendental functions and selections: in :data:`FIRST_ORDER` each function is built upon
:math:`e^{-|x|}`, which the compiler then computes once, and carries its known derivative, the first
one, by the logits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PerClass = float | Tensor

NEGLIGIBLE = -60.0
"""Logarithm of the largest power that counts as 0, where each class has an exponent. Those may be
large, and what is multiplied by a power so small becomes a subnormal number, on which a CPU may
spend a hundred times the time."""

LINEAR_FROM = 80.0
"""Logit from which its softplus is the logit itself; its exponential is still finite."""

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

EXP: tuple[PerClass, ...] = (
    0.499999934316,
    0.166665203959,
    0.0416683909236,
    0.00836874550267,
    0.00138145316252,
)
"""Coefficients of the polynomial nearest to (e^r - 1 - r) / r^2 for |r| <= log(2) / 2; relative
error of e^r 3e-9."""
LOG2_HIGH = 355 / 512
"""log(2) in so few bits that its products with whole numbers are exact; the rest is LOG2_LOW."""
LOG2_LOW = math.log(2) - LOG2_HIGH
LEAST_EXPONENT = -87.0
"""Of the smallest exponential that is a normal number in float32."""


class Elementary:
    """Differentiable to any order."""

    def sigmoid(self, x: Tensor) -> Tensor:
        r"""Probability :math:`1 / (1 + e^{-x})` of a logit."""
        return x.sigmoid()

    def not_sigmoid(self, x: Tensor) -> Tensor:
        r"""Probability :math:`1 / (1 + e^x)` of the opposite, precise where it is small."""
        return (-x).sigmoid()

    def log_sigmoid(self, x: Tensor) -> Tensor:
        r"""Log-probability :math:`-\log(1 + e^{-x})` of a logit, precise at both ends."""
        return F.logsigmoid(x)

    def log_not_sigmoid(self, x: Tensor) -> Tensor:
        r"""Log-probability :math:`-\log(1 + e^x)` of the opposite, precise at both ends."""
        return -self.softplus(x)

    def softplus(self, x: Tensor) -> Tensor:
        r""":math:`\log(1 + e^x)`, precise at both ends: cross-entropy of a negative."""
        return F.softplus(x, threshold=LINEAR_FROM)

    def bce(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Binary cross-entropy with logits, :math:`-y\log p - (1-y)\log(1-p)`."""
        if torch.compiler.is_compiling():
            return F.binary_cross_entropy_with_logits(x, y, reduction='none')
        return _BCE.apply(x, y)

    def log_not_sigmoid_plus(self, x: Tensor, not_p: Tensor, excess: float) -> Tensor:
        r""":math:`\log(1 - p + c)` for an excess c > 0, given 1 - p."""
        return (not_p + excess).log()

    def exp(self, x: Tensor) -> Tensor:
        r""":math:`e^x` of x <= 0."""
        return x.exp()

    def power(self, base: Tensor, exponent: PerClass) -> Tensor:
        """``base ** exponent`` for base >= 0 with a finite gradient, 0 where the base vanishes.

        With an exponent for each class also 0 where the power is :data:`NEGLIGIBLE`.
        """
        if not isinstance(exponent, Tensor) and (exponent == 0 or exponent >= 1):
            return base.pow(exponent)
        safe = base.clamp(min=torch.finfo(base.dtype).tiny)
        return _vanishing(base, safe, exponent, _quarters(safe, exponent))


class FirstOrder(Elementary):
    """Right in value and first derivative by the logits; for the compiled pass alone."""

    def sigmoid(self, x: Tensor) -> Tensor:
        fixed = x.detach()
        p = _probability(fixed)
        return _with_slope(x, fixed, p, p * (1 - p))

    def not_sigmoid(self, x: Tensor) -> Tensor:
        fixed = x.detach()
        q = _opposite(fixed)
        return _with_slope(x, fixed, q, q * (q - 1))

    def log_sigmoid(self, x: Tensor) -> Tensor:
        fixed = x.detach()
        value = fixed.clamp(max=0) - _log1p(_decay(fixed))
        return _with_slope(x, fixed, value, _opposite(fixed))

    def softplus(self, x: Tensor) -> Tensor:
        fixed = x.detach()
        value = fixed.clamp(min=0) + _log1p(_decay(fixed))
        return _with_slope(x, fixed, value, _probability(fixed))

    def bce(self, x: Tensor, y: Tensor) -> Tensor:
        fixed = x.detach()
        if_negative = fixed.clamp(min=0)
        value = y * (if_negative - fixed) + (1 - y) * if_negative + _log1p(_decay(fixed))
        return _with_slope(x, fixed, value, _probability(fixed) - y)

    def log_not_sigmoid_plus(self, x: Tensor, not_p: Tensor, excess: float) -> Tensor:
        fixed = x.detach()
        decay, q = _decay(fixed), _opposite(fixed)
        # 1 - p + c = (1 + c) (e^-x + k) / (e^-x + 1), in terms of the decay, as e^-x may overflow.
        k = excess / (1 + excess)
        ratio = torch.where(fixed > 0, decay.clamp(max=k) / decay.clamp(min=k), k * decay)
        value = _log1p(ratio) - _log1p(decay) - fixed.clamp(0, -math.log(k)) + math.log1p(excess)
        return _with_slope(x, fixed, value, q * (q - 1) / (q + excess))

    def exp(self, x: Tensor) -> Tensor:
        fixed = x.detach()
        value = _exp(fixed)
        return _with_slope(x, fixed, value, value)

    def power(self, base: Tensor, exponent: PerClass) -> Tensor:
        if not isinstance(exponent, Tensor) and float(exponent).is_integer():
            return base.pow(exponent)
        fixed = base.detach()
        safe = fixed.clamp(min=torch.finfo(base.dtype).tiny)
        if isinstance(exponent, Tensor) or not (4 * exponent).is_integer():
            result = (exponent * safe.log()).exp()
        else:
            result = _quarters(safe, exponent)
        result = _vanishing(fixed, safe, exponent, result)
        return _with_slope(base, fixed, result, exponent * result / safe)


ANY_ORDER = Elementary()
FIRST_ORDER = FirstOrder()


def _quarters(safe: Tensor, exponent: PerClass) -> Tensor:
    """A power, by square roots where the exponent is a multiple of a quarter."""
    if isinstance(exponent, Tensor) or not (4 * exponent).is_integer():
        return safe.pow(exponent)
    root = safe.sqrt()
    result = safe.pow(exponent // 1)
    result = result * root if exponent % 1 >= 0.5 else result
    return result * root.sqrt() if exponent % 0.5 else result


def _vanishing(base: Tensor, safe: Tensor, exponent: PerClass, result: Tensor) -> Tensor:
    """A power, with exact zeros where it is none that can be told from 0."""
    vanishes = base <= torch.finfo(base.dtype).tiny
    if isinstance(exponent, Tensor):
        vanishes = torch.where(vanishes, exponent > 0, exponent * safe.log() <= NEGLIGIBLE)
    return torch.where(vanishes, 0.0, result)


def _with_slope(x: Tensor, fixed: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """``value``, whose derivative by ``x`` is known to be ``slope``, both of ``fixed`` x."""
    return torch.addcmul(value, x - fixed, slope) if torch.is_grad_enabled() else value


def _decay(x: Tensor) -> Tensor:
    return _exp(-x.abs())


def _exp(x: Tensor) -> Tensor:
    """e^x of x <= 0; on a CPU without a call of a library, which would clear all its registers."""
    if x.device.type != 'cpu' or x.dtype != torch.float32:
        return x.exp()
    x = x.clamp(min=LEAST_EXPONENT)
    twos = (x * (1 / math.log(2))).round()
    rest = x - twos * LOG2_HIGH - twos * LOG2_LOW
    *others, quotient = EXP
    for coefficient in reversed(others):
        quotient = quotient * rest + coefficient
    power_of_two = ((twos.to(torch.int32) + 127) * 2**23).view(torch.float32)
    return (quotient * rest * rest + rest + 1) * power_of_two


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
