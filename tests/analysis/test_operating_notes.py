"""Few objects: by how much recall is uncertain, against a simulation."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.score_quality_by_hand import scene
from mmfocalx.analysis.operating_notes import note_on_few_objects
from mmfocalx.analysis.operating_point import Settings, study


def points(note: str) -> dict[str, int]:
    """How many points a note names, by class."""
    return {name: int(value) for value, name in re.findall(r'(\d+) for (\w+) \(', note)}


@pytest.mark.parametrize('objects', [4, 25, 87, 99])
def test_points_are_those_that_19_of_20_draws_lie_within(objects: int) -> None:
    (note,) = note_on_few_objects({'bird': objects})
    found = np.random.default_rng(0).binomial(objects, 0.5, 200_000) / objects
    away = 100 * np.abs(found - 0.5)
    said = points(note)['bird']
    step = 100 / objects
    assert (away <= said + step / 2).mean() >= 0.95
    assert (away <= said - step).mean() < 0.95
    assert f'bird ({objects} objects)' in note


@pytest.mark.parametrize('counts', [{}, {'bird': 100}, {'bird': 100, 'cat': 0}])
def test_many_objects_and_none_need_no_note(counts: dict[str, int]) -> None:
    assert note_on_few_objects(counts) == []


def test_a_study_says_it_of_its_own_objects(tmp_path: Path) -> None:
    truth, found = scene(6, images=40)
    for name, content in (('found', found), ('truth', truth)):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    counts = Counter(a['category_id'] for a in truth['annotations'] if not a['iscrowd'])
    (note,) = [
        note
        for note in study(tmp_path / 'found.json', tmp_path / 'truth.json', Settings()).notes
        if 'Few objects' in note
    ]
    assert f'bird ({counts[5]} objects)' in note
    assert f'cat ({counts[2]} objects)' in note
    assert points(note).keys() == {'bird', 'cat'}
