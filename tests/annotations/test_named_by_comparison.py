"""What a comparison says of an annotation file that cannot be judged, before it trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('mmdet')

from annotations.test_named import ERRORS, WARNINGS
from helpers import stub_tools
from helpers import wild_annotations as wild
from mmfocalx.compare.plan import trouble
from mmfocalx.compare.runs import Run
from mmfocalx.evaluation.annotations import contents


@pytest.mark.parametrize('case', ['image id twice', 'category name twice', 'annotation id twice',
                                  'no annotation id', 'no categories', 'images empty'])  # fmt: skip
def test_comparison_refuses_before_it_trains(tmp_path: Path, case: str) -> None:
    data = wild.write(tmp_path, ERRORS[case][0])
    run = Run('a', 0, stub_tools.write_config(tmp_path / 'a.py', data), tmp_path / 'out')
    with pytest.raises(ValueError, match=ERRORS[case][2]):
        trouble(run)


@pytest.mark.parametrize('case', ['no image matches', 'no category matches',
                                  'image ids of another type'])  # fmt: skip
def test_comparison_does_not_train_where_there_is_nothing_to_find(
    tmp_path: Path, case: str
) -> None:
    data = wild.write(tmp_path, ERRORS[case][0])
    run = Run('a', 0, stub_tools.write_config(tmp_path / 'a.py', data), tmp_path / 'out')
    says = r'has no object to find: 12 annotations have an? \w+ that the file does not list'
    assert re.search(says, trouble(run))
    wild.write(tmp_path, lambda content: content.update(annotations=[]))
    assert trouble(run) == ''


def test_comparison_says_that_coco_metric_misses_the_annotation_0(tmp_path: Path) -> None:
    data = wild.write(tmp_path, WARNINGS['annotation id 0'][0])
    (oddity,) = contents(data / 'annotations.json').oddities
    assert oddity.startswith('1 annotation has the id 0 (CocoMetric counts its object as missed')
