"""Suggested settings against their formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmfocalx.analysis.suggestions import (
    alpha_of_gamma,
    bias_prior,
    class_alpha,
    effective_weights,
    inverse_weights,
    learning_rate,
    scalar_alpha,
)


def test_weights_by_hand() -> None:
    """Cui et al. 2019, eq. 2, for beta 0.9: (1 - 0.9^n) / 0.1."""
    numbers = {1: 1.0, 2: 1.9, 10: 6.5132156}
    weights = np.array([1 / value for value in numbers.values()])
    np.testing.assert_allclose(
        effective_weights([*numbers], 0.9), weights * 3 / weights.sum(), rtol=1e-7
    )
    np.testing.assert_allclose(effective_weights([7, 900], 0.0), [1, 1])
    # 1/1 : 1/4 = 4 : 1 with mean 1; a class without objects gets 1
    np.testing.assert_allclose(inverse_weights([1, 0, 4]), [1.6, 1.0, 0.4])
    np.testing.assert_allclose(effective_weights([1, 4], 1 - 1e-9), [1.6, 0.4], rtol=1e-6)


@pytest.mark.parametrize(
    ('alpha', 'weight', 'expected'),
    [(0.25, 1, 0.25), (0.25, 3, 0.5), (0.25, 1 / 3, 0.1), (0.5, 4, 0.8), (0.0, 9, 0), (1.0, 2, 1)],
)
def test_alpha_of_a_class_by_hand(alpha: float, weight: float, expected: float) -> None:
    """Odds 1:3 times 3 are 1:1, and so on."""
    assert class_alpha(alpha, np.array([weight]))[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ('gamma', 'alpha'), [(0, 0.75), (0.2, 0.75), (0.5, 0.5), (1, 0.25), (2, 0.25), (7, 0.25)]
)
def test_alpha_for_a_gamma_is_that_of_the_table(gamma: float, alpha: float) -> None:
    assert alpha_of_gamma(gamma) == alpha


def test_scalar_rules_by_hand() -> None:
    assert scalar_alpha(0.001) == 0.999
    assert (bias_prior(0.0), bias_prior(0.004), bias_prior(0.03)) == (0.01, 0.01, 0.03)
    sgd, adam = {'type': 'SGD', 'lr': 0.02}, {'type': 'AdamW', 'lr': 2e-3}
    assert learning_rate(None).value == 0.01
    assert learning_rate(sgd, 4, 16).value == pytest.approx(0.005)  # linear: a quarter
    assert learning_rate(adam, 32, 8).value == pytest.approx(4e-3)  # square root: twice
    assert learning_rate({'type': 'SGD', 'lr': 1.0}, 8).value == pytest.approx(0.005)
    with pytest.raises(ValueError, match=r'`beta`.* in \[0, 1\)'):
        effective_weights([1], 1.0)
