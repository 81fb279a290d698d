"""Sizes of the objects of each class against the annotations, scaled by hand."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from helpers.digit_annotations import CONFIGS, COUNTS, DIGITS, FCOS, RETINA
from mmfocalx.analysis import dataset_charts
from mmfocalx.analysis.dataset import Wanted, study_dataset
from mmfocalx.analysis.dataset_cli import main
from mmfocalx.analysis.object_sizes import _beyond

ATSS = CONFIGS / 'atss/atss_r18-w16_fpn_focal_12e_digit-scenes.py'
SMALLEST, LARGEST = 3 * 8, 3 * 2**0.5 * 32
"""Base scale 3, two scales an octave, strides 8 to 32."""


def described(annotations: Path, out: Path, *options: object) -> dict:
    assert main([str(annotations), '--out', str(out), *map(str, options)]) == 0
    return json.loads((out / 'dataset_stats.json').read_text())


def scaled(folder: Path, base: Path, side: int) -> Path:
    """A config that trains with the long edge of an image at ``side`` pixels."""
    path = folder / f'to_{side}.py'
    path.write_text(
        f'_base_ = [{str(base)!r}]\n'
        "train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile'), "
        "dict(type='LoadAnnotations', with_bbox=True), "
        f"dict(type='Resize', scale=({side}, {side}), keep_ratio=True), "
        "dict(type='PackDetInputs')]))\n"
    )
    return path


def sizes_by_hand(annotations: Path, factor: float) -> list[list[float]]:
    """Of each class; the long edge of every image is 192 pixels."""
    sizes: list[list[float]] = [[] for _ in DIGITS]
    for one in json.loads(annotations.read_text())['annotations']:
        if not one['iscrowd']:
            side = math.sqrt(one['bbox'][2] * one['bbox'][3])
            sizes[one['category_id'] - 1].append(side * factor)
    assert [*map(len, sizes)] == [*COUNTS]
    return sizes


def percentiles_by_hand(sizes: list[float]) -> dict[str, float]:
    if len(sizes) == 1:
        sizes = sizes * 2
    cuts = statistics.quantiles(sizes, n=20, method='inclusive')
    return {'5': cuts[0], '50': cuts[9], '95': cuts[18]}


@pytest.mark.parametrize('side', [96, 768])
def test_sizes_of_a_class_are_those_at_the_scale_of_training(
    annotations: Path, tmp_path: Path, side: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = scaled(tmp_path, RETINA, side)
    numbers = described(annotations, tmp_path / 'out', '--config', config)
    assert numbers['anchors'] == pytest.approx({'smallest': SMALLEST, 'largest': LARGEST})
    printed, page = capsys.readouterr().out, (tmp_path / 'out/report.html').read_text()
    expected = []
    for got, name, sizes in zip(
        numbers['class_sizes'], DIGITS, sizes_by_hand(annotations, side / 192), strict=True
    ):
        percentiles = percentiles_by_hand(sizes)
        below = sum(size < SMALLEST for size in sizes) / len(sizes)
        above = sum(size > LARGEST for size in sizes) / len(sizes)
        assert got['percentiles'] == pytest.approx(percentiles, rel=1e-5)
        assert (got['name'], got['below_anchors'], got['above_anchors']) == (name, below, above)
        cells = [f'{value:.1f}' for value in (*percentiles.values(), 100 * below, 100 * above)]
        assert f'| {name} | {" | ".join(cells)} |' in printed
        assert f'<th>{name}</th>' + ''.join(f'<td>{cell}</td>' for cell in cells) in page
        share = below if side == 96 else above
        expected += [f'{name} ({100 * share:.0f} %)'] if share > 0.5 else []
    assert 0 < len(expected) < 10
    (note,) = [note for note in numbers['notes'] if 'anchor' in note]
    words = 'smaller than the smallest anchor, 24'
    if side > 96:
        words = 'larger than the largest anchor, 136'
    assert f'{words} pixels at the scale of training' in note
    assert all(one in note for one in expected[:5])
    assert half_fit_at_the_factor(note, annotations, side / 192)
    assert not [name for name in DIGITS if f'{name} (' in note and f'{name} (' not in str(expected)]


def half_fit_at_the_factor(note: str, annotations: Path, scale: float) -> bool:
    """Whether half of each class fit at the factor that a note names, and not much before it."""
    factor = float(re.search(r': at ([\d.]+) times the scale no more than half', note)[1])
    larger = factor > 1

    def fit(times: float) -> bool:
        return all(
            sum(s < SMALLEST if larger else s > LARGEST for s in sizes) <= len(sizes) / 2
            for sizes in sizes_by_hand(annotations, scale * times)
        )

    return fit(factor) and not fit(factor - 0.11 if larger else factor + 0.011)


@pytest.mark.parametrize(
    ('side', 'median', 'said'),
    [(24, 16, '1.5'), (24, 23.9, '1.1'), (24, 0, ''), (136, 200, '0.68'), (136, 136.1, '0.99')],
)
def test_a_factor_is_rounded_away_from_1(side: float, median: float, said: str) -> None:
    assert _beyond(side, median) == said


def test_guide_lines_are_those_that_the_head_matches_by(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []

    def draw(plot: Any, _: float) -> None:
        figures.append(Figure())
        plot(figures[-1])

    monkeypatch.setattr(dataset_charts, 'draw', draw)
    for base, lines, caption in (
        (RETINA, [SMALLEST, LARGEST], 'the smallest and the largest anchor'),
        (FCOS, [8, 16, 32], 'the strides of the levels'),
    ):
        study = study_dataset(annotations, scaled(tmp_path, base, 96), Wanted())
        dataset_charts.sizes_chart(study)
        drawn_at = [line.get_xdata()[0] for line in figures[-1].axes[0].lines]
        assert drawn_at[: len(lines)] == pytest.approx(lines)
        (about,) = [
            one.explanation for one in dataset_charts.charts_of(study) if 'Sizes' in one.title
        ]
        assert f'Dashed: {caption}.' in about


@pytest.mark.parametrize('base', [FCOS, ATSS])
def test_a_head_that_matches_no_anchors_by_iou_has_sizes_without_a_note(
    annotations: Path, tmp_path: Path, base: Path
) -> None:
    numbers = described(annotations, tmp_path / 'out', '--config', scaled(tmp_path, base, 96))
    assert numbers['anchors'] is None
    assert not [note for note in numbers['notes'] if 'anchor' in note]
    zero = sizes_by_hand(annotations, 0.5)[0]
    assert numbers['class_sizes'][0] == {
        'name': 'zero',
        'percentiles': pytest.approx(percentiles_by_hand(zero), rel=1e-5),
        'below_anchors': None,
        'above_anchors': None,
    }


def test_pixels_are_labelled(annotations: Path, tmp_path: Path) -> None:
    numbers = described(annotations, tmp_path / 'a')
    assert numbers['scale_of_sizes'] == 'in the original images'
    for got, sizes in zip(numbers['class_sizes'], sizes_by_hand(annotations, 1.0), strict=True):
        assert got['percentiles'] == pytest.approx(percentiles_by_hand(sizes), rel=1e-12)
    plain = (tmp_path / 'a/report.html').read_text()
    numbers = described(annotations, tmp_path / 'b', '--config', scaled(tmp_path, RETINA, 96))
    page = (tmp_path / 'b/report.html').read_text()
    assert numbers['scale_of_sizes'] == 'at the scale of training'
    for text, scale in ((plain, 'in the original images'), (page, 'at the scale of training')):
        assert 'Boxes in the original images: ' in text
        assert f'Square root of the area of a box, pixels {scale}. ' in text
        assert f'Square root of the area, {scale}.' in text


def test_a_class_without_objects_has_no_sizes(annotations: Path, tmp_path: Path) -> None:
    content = json.loads(annotations.read_text())
    content['annotations'] = [one for one in content['annotations'] if one['category_id'] != 10]
    file = tmp_path / 'no_nine.json'
    file.write_text(json.dumps(content))
    nine = described(file, tmp_path / 'out', '--config', RETINA)['class_sizes'][9]
    assert nine['percentiles'] == {'5': None, '50': None, '95': None}
    assert nine['below_anchors'] is None
    page = (tmp_path / 'out/report.html').read_text()
    assert '<th>nine</th>' + 5 * '<td>–</td>' in page
