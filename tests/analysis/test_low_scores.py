"""Scores of a ranking loss stay near 0.01: tables keep their digits, axes end where they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers.score_quality_by_hand import scene
from mmfocalx.analysis import operating_charts
from mmfocalx.analysis.operating_cli import main
from mmfocalx.analysis.operating_point import Settings, study
from mmfocalx.compare import charts as comparison_charts
from mmfocalx.reporting.charts import score_limit
from mmfocalx.reporting.wording import score

SHRINK = 0.02


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    truth, found = scene(6, images=40)
    found = [{**one, 'score': SHRINK * one['score']} for one in found]
    paths = tmp_path / 'detections.json', tmp_path / 'annotations.json'
    for path, content in zip(paths, (found, truth), strict=True):
        path.write_text(json.dumps(content))
    return [str(path) for path in paths]


def printed(text: str, heading: str) -> list[float]:
    """The numbers in the columns of the first table that are called so."""
    lines = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')]
    columns = [k for k, name in enumerate(lines[0]) if heading in name]
    cells = [row[k] for row in lines[2:4] for k in columns]
    return [float(cell) for cell in cells]


def test_what_is_shown_of_a_threshold_can_be_used(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = tmp_path / 'chosen'
    assert main([*files, '--out', str(chosen)]) == 0
    stored = json.loads((chosen / 'thresholds.json').read_text())['classes'].values()
    exact = [one[kind]['threshold'] for one in stored if one['lrp'] for kind in ('f_beta', 'lrp')]
    assert max(exact) < SHRINK
    assert printed(capsys.readouterr().out, 'threshold') == pytest.approx(exact, rel=1e-3)

    judged = tmp_path / 'judged'
    given = ['--thresholds', str(chosen / 'thresholds.json')]
    assert main([*files, '--out', str(judged), *given]) == 0
    assert printed(capsys.readouterr().out, 'threshold') == pytest.approx(exact, rel=1e-3)
    for page in (chosen / 'report.html', judged / 'report.html'):
        shown = [float(text) for text in re.findall(r'<td><b>(0\.\d+)</b>', page.read_text())]
        assert shown[: len(exact)] == pytest.approx(exact, rel=1e-3)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []

    def draw(plot: Any, _: float = 1.0) -> str:
        figures.append(Figure())
        plot(figures[-1])
        return ''

    monkeypatch.setattr(operating_charts, 'draw', draw)
    monkeypatch.setattr(comparison_charts, 'draw', draw)
    return figures


@pytest.mark.parametrize('chart', ['thresholds_chart', 'over_threshold_chart', 'curves_chart'])
@pytest.mark.parametrize('factor', [1.0, 0.01, 1e-5])
def test_an_axis_of_scores_ends_where_they_do(
    files: list[str], drawn: list[Figure], chart: str, factor: float
) -> None:
    detections, annotations = map(Path, files)
    found = json.loads(detections.read_text())
    highest = max(one['score'] for one in found)
    found = [{**one, 'score': 0.99 * factor * one['score'] / highest} for one in found]
    detections.write_text(json.dumps(found))
    getattr(operating_charts, chart)(study(detections, annotations, Settings()))
    (axes,) = drawn[0].axes
    low, high = axes.get_xlim()
    if factor == 1:
        assert high == pytest.approx(1, abs=0.03)
    else:
        assert 0.99 * factor < high < 1.2 * 0.99 * factor
    assert -0.05 * high <= low <= 0


def test_a_panel_of_low_scores_has_an_axis_of_its_own(
    drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {'focal': np.array([0.1, 0.8, 0.9]), 'rank': np.array([0.009, 0.01, 0.02])}
    ious = np.full(3, 0.7)

    def density_limits(*names: str) -> list[float]:
        variants = [
            SimpleNamespace(label=name, quality={'spearman': SimpleNamespace(mean=0.5)})
            for name in names
        ]
        comparison_charts.density_chart(SimpleNamespace(finished=variants))
        panels = drawn[-1].axes
        filled = [int((np.asarray(axes.images[0].get_array()) > 0).sum()) for axes in panels]
        assert filled == [3] * len(names)
        labelled = [axes.xaxis.get_tick_params()['labelbottom'] for axes in panels]
        below = len(panels) - 3 if len({*names}) == 1 else 0
        assert labelled == [k >= below for k in range(len(panels))]
        limits = [axes.get_xlim()[1] for axes in panels]
        assert limits == [axes.images[0].get_extent()[1] for axes in panels]
        return limits

    monkeypatch.setattr(comparison_charts, 'pooled', lambda one: (scores[one.label], ious))
    assert density_limits('focal', 'rank') == pytest.approx([1, 0.021])
    assert density_limits('rank', 'focal') == pytest.approx([0.021, 1])
    assert density_limits('focal') == [1]
    assert density_limits(*['focal'] * 6) == [1] * 6
    assert density_limits(*['focal'] * 5, 'rank') == pytest.approx([1] * 5 + [0.021])


@pytest.mark.parametrize(
    ('scores', 'limit'),
    [([], 1), ([0.0, 0.0], 1), ([0.5], 1), ([0.2, 0.4], 0.42), ([0.01], 0.0105), ([1.0], 1)],
)
def test_limit_of_an_axis(scores: list[float], limit: float) -> None:
    assert score_limit(scores) == pytest.approx(limit)


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.0135256, '0.01353'), (0.5, '0.5000'), (1, '1.000'), (0, '0.000'), (float('nan'), '–')],
)
def test_wording_of_a_score(value: float, text: str) -> None:
    assert score(value) == text
