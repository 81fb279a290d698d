"""What the terminal shows of operating points is what their JSON holds."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.score_quality_by_hand import scene
from mmfocalx.analysis.operating_cli import as_text
from mmfocalx.analysis.operating_point import Settings, study


def test_shares_are_in_percent_as_the_text_says(tmp_path: Path) -> None:
    truth, found = scene(6, images=41)
    for name, content in (('found', found), ('truth', truth)):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    result = study(tmp_path / 'found.json', tmp_path / 'truth.json', Settings())
    numbers, text = result.as_json(), as_text(result)
    rows = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')]
    (bird,) = [row for row in rows if row[0] == 'bird']
    kinds = [numbers['classes']['bird'][kind] for kind in ('f_beta', 'lrp')]
    assert bird[3:6] + bird[7:] == [
        cell
        for kind in kinds
        for cell in (
            f'{kind["value"]:.3f}',
            f'{100 * kind["precision"]:.1f}',
            f'{100 * kind["recall"]:.1f}',
        )
    ]
    assert text.startswith('Precision and recall are in percent.')
    errors = numbers['calibration']
    for key in ('D-ECE', 'LaECE0'):
        cells = [f'{100 * errors[when][key]:.1f}' for when in ('before', 'after')]
        assert [key, *cells] in rows
    fitted, judged = errors['fitted_on_images'], errors['judged_on_images']
    assert fitted != judged
    assert f'fitted on {fitted} images and judged on the other {judged}:' in text
