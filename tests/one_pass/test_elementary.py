"""The transcendental functions of the compiled pass against torch's own in float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from mmfocalx.losses.one_pass.elementary import FIRST_ORDER


def slope(function: Any) -> Any:
    return lambda x: torch.func.grad(lambda x: function(x).sum())(x)


@pytest.mark.parametrize(
    ('function', 'exact', 'slope_error'),
    [
        (lambda x: FIRST_ORDER.exp(-x.abs()), lambda x: (-x.abs()).exp(), 1e-37),
        (FIRST_ORDER.sigmoid, torch.sigmoid, 1e-7),  # p(1 - p), as torch has it
        (FIRST_ORDER.not_sigmoid, lambda x: torch.sigmoid(-x), 1e-7),
        (FIRST_ORDER.log_sigmoid, nn.functional.logsigmoid, 1e-37),
        (FIRST_ORDER.log_not_sigmoid, lambda x: nn.functional.logsigmoid(-x), 1e-37),
        (FIRST_ORDER.softplus, lambda x: -nn.functional.logsigmoid(-x), 1e-37),
        (
            lambda x: FIRST_ORDER.bce(x, torch.full_like(x, 0.3)),
            lambda x: nn.functional.binary_cross_entropy_with_logits(
                x, torch.full_like(x, 0.3), reduction='none'
            ),
            1e-7,
        ),
        *(
            (
                lambda x, c=c: (
                    FIRST_ORDER.log_not_sigmoid_plus(x, FIRST_ORDER.not_sigmoid(x), c) - 1
                ),  # away from its zero
                lambda x, c=c: (torch.sigmoid(-x) + c).log() - 1,
                1e-7,
            )
            for c in (1e-6, 0.05, 0.5, 1)
        ),
        *(
            (partial(FIRST_ORDER.power, exponent=k), partial(torch.pow, exponent=k), 1e-37)
            for k in (0.25, 0.5, 1, 1.3, 1.75, 2, 4)
        ),
    ],
)
def test_compiled_functions_are_precise_everywhere(
    function: Any, exact: Any, slope_error: float
) -> None:
    x, relative = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([-1e4, 1e4])]), 3e-7
    if isinstance(function, partial):  # an exponential of a logarithm of up to 20
        x, relative = torch.logspace(-9, 0, 901), 4e-6

    def known(function: Any) -> Any:
        compiled = torch.compile(function, backend='aot_eager', dynamic=False)
        return compiled(x)

    torch.testing.assert_close(
        known(function).double(), exact(x.double()), rtol=relative, atol=1e-37
    )
    torch.testing.assert_close(
        known(slope(function)).double(),
        slope(exact)(x.double()),
        rtol=3 * relative,
        atol=slope_error,
    )
