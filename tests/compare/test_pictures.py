"""The pictures of a report: labels of boxes are legible wherever the boxes are."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmfocalx.compare.detections import drawn

SIDE = 400


def pixels_of_a_missed_object(folder: Path, x: float, y: float) -> int:
    """How many pixels of box and label a black picture shows, for a box with this corner."""
    image = folder / 'image.png'
    Image.new('RGB', (SIDE, SIDE), 'black').save(image)
    annotations = folder / f'annotations-{x}-{y}.json'
    box = [x, y, 40, 40]
    annotations.write_text(
        json.dumps(
            {
                'images': [{'id': 0, 'file_name': image.name, 'width': SIDE, 'height': SIDE}],
                'categories': [{'id': 0, 'name': 'mousebite'}],
                'annotations': [
                    {'id': 1, 'image_id': 0, 'category_id': 0, 'bbox': box, 'area': 1600,
                     'iscrowd': 0}
                ],
            }
        )
    )  # fmt: skip
    run = SimpleNamespace(
        detections=np.zeros((0, 7)), quality={}, result={'annotations': str(annotations)}
    )
    uri = drawn(run, 0, image)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))) as picture:
        return int((np.asarray(picture.convert('L')) > 60).sum())


@pytest.mark.parametrize(('x', 'y'), [(359, 200), (300, 200), (0, 200), (200, 359), (359, 359)])
def test_a_label_is_whole_at_the_edges(tmp_path: Path, x: float, y: float) -> None:
    whole = pixels_of_a_missed_object(tmp_path, 200, 200)
    assert whole > 100
    assert pixels_of_a_missed_object(tmp_path, x, y) == pytest.approx(whole, rel=0.15)
