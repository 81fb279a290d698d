"""A reliability line says nothing of bins with too few detections, and does not cross them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip('hotcoco')
pytest.importorskip('matplotlib')

from mmfocalx.analysis import operating_charts
from mmfocalx.compare import charts as comparison_charts
from mmfocalx.plotting import line_styles

SCORES = np.repeat([0.05, 0.35, 0.75, 0.95], [40, 9, 10, 20])
"""Bins 0, 7 and 9 have enough detections, bin 3 has one too few."""
IOUS = np.where(np.arange(len(SCORES)) % 2, 0.7, 0.0)
EXPECTED = {0: (0.05, 0.5), 7: (0.75, 0.5), 9: (0.95, 0.5)}


def in_operating_points(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operating_charts, 'pooled', lambda _: (SCORES, IOUS))
    patch.setattr(
        operating_charts, 'calibration_of', lambda _: SimpleNamespace(raw=0, calibrated=0)
    )
    operating_charts.reliability_chart(SimpleNamespace())


def in_a_comparison(patch: pytest.MonkeyPatch) -> None:
    variant = SimpleNamespace(evaluations=[None])
    patch.setattr(comparison_charts, 'pooled', lambda _: (SCORES, IOUS))
    patch.setattr(comparison_charts, 'styled', lambda _: [(variant, line_styles(1)[0])])
    comparison_charts.reliability_chart(SimpleNamespace(finished=[variant]))


@pytest.mark.parametrize('draw', [in_operating_points, in_a_comparison])
def test_the_line_ends_at_a_bin_that_is_left_out(
    monkeypatch: pytest.MonkeyPatch, draw: Any
) -> None:
    drawn = []
    for module in (operating_charts, comparison_charts):
        monkeypatch.setattr(module, 'line', lambda _, x, y, *__: drawn.append((x, y)))
    draw(monkeypatch)
    for x, y in drawn:
        assert len(x) == len(y) == 10
        assert {k for k in range(10) if np.isfinite(x[k])} == set(EXPECTED)
        assert {k for k in range(10) if np.isfinite(y[k])} == set(EXPECTED)
        for k, point in EXPECTED.items():
            assert (x[k], y[k]) == pytest.approx(point, abs=1e-12)
    assert drawn
