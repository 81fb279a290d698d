"""The masks of the digit scenes: added beside the boxes, which stay as they are."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('sklearn.datasets')

from helpers.digit_sets import SMALL, SPLITS, coco, digests
from mmfocalx.datasets import digit_scenes

pytestmark = pytest.mark.usefixtures('few_images')


@pytest.fixture(scope='module')
def with_masks(root, tmp_path_factory):
    """A copy of the finished set that got its masks afterwards."""
    folder = tmp_path_factory.mktemp('masks') / 'set'
    shutil.copytree(root, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_scenes, 'NUM_IMAGES', SMALL)
        assert digit_scenes.build(folder, seed=3, masks=True)
        assert digit_scenes.build(folder, seed=3, masks=True) is False
    return folder


def test_masks_change_no_other_file(root, with_masks, tmp_path):
    added = {f'annotations/{split}_masks.json' for split in SPLITS}
    assert digests(with_masks).keys() - digests(root).keys() == added
    assert digests(with_masks).items() >= digests(root).items()
    assert digit_scenes.build(tmp_path / 'new', seed=3, masks=True)
    assert digests(tmp_path / 'new') == digests(with_masks)
    assert digit_scenes.build(with_masks, seed=3) is False


@pytest.mark.parametrize('split', SPLITS)
def test_a_mask_is_the_dark_part_of_its_box(with_masks, split):
    """Read by pycocotools: inside the box, touching its four sides, darker than the rest of it."""
    coco_api = pytest.importorskip('pycocotools.coco').COCO
    api = coco_api(str(with_masks / 'annotations' / f'{split}_masks.json'))
    boxes = coco(with_masks, split)['annotations']
    darker = []
    for mask, box in zip(api.dataset['annotations'], boxes, strict=True):
        assert {k: v for k, v in mask.items() if k not in ('segmentation', 'area')} == {
            k: v for k, v in box.items() if k != 'area'
        }
        image = api.loadImgs(mask['image_id'])[0]
        ink = api.annToMask(mask).astype(bool)
        assert ink.shape == (192, 192) and ink.sum() == mask['area'] < box['area']
        rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
        x, y, w, h = box['bbox']
        assert (columns[0], rows[0]) == (x, y)
        assert (columns[-1], rows[-1]) == (x + w - 1, y + h - 1)
        with Image.open(with_masks / split / image['file_name']) as picture:
            grey = np.asarray(picture.convert('L'), float)[y : y + h, x : x + w]
        ink = ink[y : y + h, x : x + w]
        darker.append(grey[~ink].mean() - grey[ink].mean())
    assert np.median(darker) > 60


def test_masks_are_not_added_to_other_boxes(root, tmp_path):
    shutil.copytree(root, tmp_path / 'set')
    file = tmp_path / 'set/annotations/val.json'
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    before = digests(tmp_path / 'set')
    with pytest.raises(ValueError, match=r'boxes that are made here .* Choose another folder'):
        digit_scenes.build(tmp_path / 'set', seed=3, masks=True)
    assert digests(tmp_path / 'set') == before
    with pytest.raises(TypeError, match='Expected argument `masks` to be'):
        digit_scenes.build(tmp_path / 'set', seed=3, masks='yes')
