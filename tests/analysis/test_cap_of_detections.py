"""Most detections on many images are pointed out, on a few by chance they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip('hotcoco')
pytest.importorskip('matplotlib')

from mmfocalx.analysis.operating_cli import main


@pytest.mark.parametrize(
    ('counts', 'lowest', 'words'),
    [
        ([50] * 20, [0.5] * 20, '20 of 20 images have exactly 50 detections'),
        ([50] * 5 + [49, *range(44)], [0.5] * 50, '5 of 50 images have exactly 50 detections'),
        ([50] * 7 + [0] * 63, [0.5] * 70, '7 of 70 images have exactly 50 detections'),
        ([10] * 5 + [0] * 45, [0.5] * 50, '5 of 50 images have exactly 10 detections'),
        ([50] * 5 + [49, *range(45)], [0.5] * 51, None),  # a smaller share than a tenth
        ([50] * 4 + [49] * 6, [0.5] * 10, None),  # four images
        ([9] * 20, [0.5] * 20, None),  # few detections
        ([50] * 20, [0.001] * 20, None),  # what was cut scores less than what is kept
        ([50] * 20, [0.5] * 8 + [0.001] * 12, '8 of 20 images have exactly 50 detections'),
    ],
)
def test_images_with_exactly_the_most_detections(
    tmp_path: Path, counts: list[int], lowest: list[float], words: str | None
) -> None:
    box = dict(category_id=1, bbox=[1, 2, 10, 10])
    found = [
        dict(box, image_id=k, score=low if i else 0.5)
        for k, (n, low) in enumerate(zip(counts, lowest, strict=True))
        for i in range(n)
    ]
    truth = dict(
        images=[dict(id=k, width=50, height=50, file_name=f'{k}.jpg') for k in range(len(counts))],
        annotations=[dict(box, id=1, image_id=0, area=100, iscrowd=0)],
        categories=[dict(id=1, name='bird')],
    )
    files = tmp_path / 'detections.json', tmp_path / 'annotations.json'
    for file, content in zip(files, (found, truth), strict=True):
        file.write_text(json.dumps(content))
    assert main([*map(str, files), '--out', str(tmp_path)]) == 0
    notes = json.loads((tmp_path / 'thresholds.json').read_text())['notes']
    expected = words and f"{words}: the detector's max_per_img may cut others."
    assert [note for note in notes if 'exactly' in note] == ([expected] if expected else [])
