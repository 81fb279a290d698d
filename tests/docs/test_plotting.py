"""Axes of plots are labelled with numbers that a reader knows."""

from __future__ import annotations

import pytest

pytest.importorskip('matplotlib')

import itertools

import matplotlib as mpl
from matplotlib.figure import Figure

from mmfocalx.plotting import STYLE, log_scale


@pytest.mark.parametrize('along', ['x', 'y'])
@pytest.mark.parametrize(
    ('ends', 'expected'),
    [
        ((8e6, 24.06e6), {'10 million', '20 million'}),
        ((20_000, 24.06e6), {'100000', '1 million', '10 million'}),
        ((0.04, 20), {'0.1', '1', '10'}),
        ((5, 20), {'5', '10', '20'}),
        ((10, 300), {'10', '20', '50', '100', '200'}),
    ],
)
def test_a_log_scale_has_decimal_numbers(
    along: str, ends: tuple[float, float], expected: set[str]
) -> None:
    with mpl.rc_context(STYLE):
        axes = Figure().subplots()
        axes.plot(ends, ends)
        log_scale(axes, along)
        axis = axes.xaxis if along == 'x' else axes.yaxis
        low, high = sorted(axis.get_view_interval())
        axes.figure.draw_without_rendering()
        shown = {t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high}
        small = {t.label1.get_text() for t in axis.get_minor_ticks()}
    assert shown == expected
    assert not any(small)


@pytest.mark.parametrize('longest', ['pedestrian', 'a kind of thirty letters, no 30'])
@pytest.mark.parametrize('most', [300, 123_456, 4.8e6])
def test_labels_of_a_narrow_chart_do_not_touch(most: float, longest: str) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 1.2), layout='constrained')
        axes = figure.subplots()
        axes.barh([0, 1], [most, 900], tick_label=[longest, 'car'])
        axes.set_xlim(0.8, 2 * most)
        log_scale(axes, 'x')
        figure.draw_without_rendering()
        ticks = axes.xaxis.get_major_ticks()
        inside = [tick for tick in ticks if 0.8 <= tick.get_loc() <= 2 * most]
        boxes = [tick.label1.get_window_extent() for tick in inside]
    assert len(boxes) >= 2
    assert all(left.x1 + 2 < right.x0 for left, right in itertools.pairwise(boxes))
