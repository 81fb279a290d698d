"""The page with real names: twelve configs, eighty classes, names of thirty characters."""

from __future__ import annotations

import base64
from itertools import combinations

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from helpers import judged_runs
from mmfocalx.compare.charts import charts_of
from mmfocalx.compare.comparison import Group
from mmfocalx.compare.html import html_report
from mmfocalx.compare.report import Report
from mmfocalx.plotting import STYLE, line_styles, wrapped
from mmfocalx.reporting import charts as frame

NAMES = [
    f'net_{f"{kind}-" + "with-a-$x$-rather-long-name-of-it":.30}_1x' for kind in 'abcdefghijkl'
]
CLASSES = [f'{f"class {k:02} has a name of its own":.30}' for k in range(80)]


@pytest.fixture(scope='module')
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp('wide')
    data = judged_runs.write_dataset(root / 'data', CLASSES, images=16)
    return judged_runs.make(root, data, NAMES, seeds=(0, 1))


@pytest.fixture(scope='module')
def group(report: Report) -> Group:
    (found,) = report.comparison().groups
    return found


def shown_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """The texts of a figure with their boxes, after the layout."""
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        canvas.draw()
    texts: list[Text] = [*figure.texts]
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks()
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in texts
        if text.get_visible() and text.get_text()
    ]


def test_no_text_is_cut_off_or_covers_another(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []

    class Recorded(Figure):
        def __init__(self, *arguments, **settings) -> None:
            super().__init__(*arguments, **settings)
            figures.append(self)

    monkeypatch.setattr(frame, 'Figure', Recorded)
    charts = list(charts_of(group))
    for chart in charts:
        chart.draw(group)
    assert len(charts) == len(figures) == 10
    for chart, figure in zip(charts, figures, strict=True):
        texts = shown_texts(figure)
        assert len(texts) > 4
        inside = figure.bbox.padded(2)
        for text, box in texts:
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1, (chart.title, text)
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1, (chart.title, text)
        for (text, box), (other, other_box) in combinations(texts, 2):
            apart = not box.padded(-1).overlaps(other_box.padded(-1))
            assert apart, (chart.title, text, other)


def test_dollars_are_no_mathematics(group: Group) -> None:
    chart = next(iter(charts_of(group)))
    source = base64.b64decode(chart.draw(group).split(',')[1]).decode()
    assert 'with-a-$x$-' in source


def test_every_config_has_a_key_and_a_class_chart_is_not_endless(
    report: Report, group: Group
) -> None:
    page = html_report(report.comparison())
    for letter, variant in zip('ABCDEFGHIJKL', group.variants, strict=True):
        assert f'>{letter}</span>{variant.label}' in page
    (chart,) = (chart for chart in charts_of(group) if chart.title == 'AP of each class')
    assert f'of {len(group.class_names)} classes that differ most' in chart.explanation
    assert len(page.encode()) < 3e6


@pytest.mark.parametrize('number', [1, 8, 9, 12, 52])
def test_styles_differ_without_their_colours(number: int) -> None:
    styles = line_styles(number)
    assert len({style.symbol for style in styles}) == number
    markers = {
        style.marker if isinstance(style.marker, str) else style.marker.vertices.tobytes()
        for style in styles
    }
    assert len(markers) == number


def test_more_lines_than_letters_are_refused() -> None:
    with pytest.raises(ValueError, match=r'`number`.* in \[0, 52\], but got 53'):
        line_styles(53)


@pytest.mark.parametrize(
    ('text', 'lines'),
    [
        ('short', ['short']),
        ('iou-aware-bce', ['iou-aware-', 'bce']),
        ('a_long_name of it', ['a_long_', 'name of it']),
        ('x' * 23, ['x' * 10, 'x' * 10, 'xxx']),
        ('', ['']),
        ('a--b__c  d', ['a--b__c  d']),
    ],
)
def test_labels_are_wrapped(text: str, lines: list[str]) -> None:
    assert wrapped(text, 10).split('\n') == lines
    assert max(map(len, lines)) <= 10
