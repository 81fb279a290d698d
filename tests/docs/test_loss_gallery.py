"""The pictures of the losses: their curves against scalar loops, and what the page lists."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('hotcoco')

from mmengine.registry import MODELS
from PIL import Image

import loss_gallery
from helpers import reference, reference_formulas
from loss_curves import (
    BATCH_LOGITS,
    BATCH_QUALITIES,
    LOGITS,
    curves,
    examples,
    gradient_in_batch,
    has_curves,
    samples,
)
from loss_page import OVERVIEW, file_name, loss_page, markdown
from mmfocalx.losses import DenseClsLoss, FocalLossX
from mmfocalx.losses.catalogue import classification_losses

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    title: config for name in classification_losses() for title, config in examples(name).items()
}
SOME = slice(3, None, 41)  # of the logits


def expected(config, curve):
    """Value and gradient at some logits, by a loop in Python floats and finite differences."""
    settings = {k: v for k, v in config.items() if k not in ('type', 'num_classes')}
    softmax = not settings.get('use_sigmoid', True)
    logits = LOGITS[SOME].tolist()
    labels = [int(curve.quality == 0)] * len(logits)
    rows = tuple((x, 0.0) if softmax else (x,) for x in logits)
    buffers = MODELS.build(config).example_states()[curve.state]
    if 'running' in buffers:
        settings['auto_iou'] = buffers['running']
    loop = reference.classification_loss(
        reference_formulas.FORMULAS[config['type']],
        settings,
        ('labels', labels) if softmax else ('tuple', labels, [curve.quality] * len(logits)),
        lead=(len(rows),),
        channels=len(rows[0]),
        frozen=rows,
        reduction='none',
        state={name: [value] for name, value in buffers.items()},
    )
    gradient = reference.gradient(lambda moved: sum(loop(moved)), rows, 1e-4)
    return loop(rows), [row[0] for row in gradient]


@pytest.mark.parametrize('title', EXAMPLES)
def test_curves(title):
    config = EXAMPLES[title]
    found = curves(config)
    shown = [(curve.state, curve.quality) for curve in found]
    assert len(set(shown)) == len(shown)
    assert {quality for _, quality in shown} >= {1.0, 0.0}
    assert {state for state, _ in shown} == {*MODELS.build(config).example_states()}
    for curve in found:
        value, gradient = expected(config, curve)
        assert curve.value[SOME].tolist() == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert curve.gradient[SOME].tolist() == pytest.approx(gradient, rel=1e-5, abs=1e-8)


def test_three_states_or_three_qualities():
    focal, equalized = (curves(EXAMPLES[name]) for name in ('FocalLossX', 'EqualizedFocalLossX'))
    assert [c.quality for c in focal] == [1.0, 0.7, 0.4, 0.0]
    assert [(c.state, c.quality) for c in equalized] == [
        (state, quality) for state in ('g = 1', 'g = 0.5', 'g = 0.1') for quality in (1.0, 0.0)
    ]


@pytest.mark.parametrize('title', EXAMPLES)
def test_no_line_leaves_its_picture(title):
    for curve in curves(EXAMPLES[title]):
        for line, (low, high) in (
            (curve.value, loss_gallery.VALUE_LIMITS),
            (curve.gradient, loss_gallery.GRADIENT_LIMITS),
        ):
            assert low < line.min() and line.max() < high


def test_settings_that_are_no_part_of_a_curve():
    plain = curves({'type': 'FocalLossX', 'alpha': 0.25})
    odd = {'activated': True, 'ohem_ratio': 0.1, 'ignore_index': 0, 'reduction': 'sum'}
    for settings in (odd, {'alpha': [0.25, 0.75, 0.5]}, {'fused': False}):
        for a, b in zip(plain, curves({'type': 'FocalLossX', **settings}), strict=True):
            assert (a.value == b.value).all() and (a.gradient == b.gradient).all()
    double = curves({'type': 'FocalLossX', 'loss_weight': 2.0})
    assert all((2 * a.value == b.value).all() for a, b in zip(plain, double, strict=True))


@pytest.mark.parametrize(
    'config',
    [
        dict(type='FocalLossX', use_sigmoid=False, alpha=[0.5, 0.25, 0.125]),
        dict(type='EqualizedFocalLossX', num_classes=10),
        dict(type='SlideLossX', loss=dict(type='QualityFocalLossX'), momentum=0.9),
        dict(type='SlideLossX', loss=dict(type='FocalLossX', gamma=[1.0, 2.0])),
        dict(type='SlideLossX', loss=dict(type='EqualizedFocalLossX', num_classes=4)),
    ],
    ids=str,
)
def test_settings_per_class(config):
    assert all(len(curve.value) == len(LOGITS) for curve in curves(config))


def test_the_page_shows_every_loss():
    page = (ROOT / 'docs/losses.md').read_text()
    sections = dict(re.findall(r'^## (\w+)\n(.*?)(?=^## |\Z)', page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(classification_losses())
    for name, text in sections.items():
        assert 'https://' in text and '```math' in text and 'Args' not in text, name
    assert sections['FocalLossX'].count('```math') == 2
    assert 'shown at g = 1, g = 0.5 and g = 0.1\n' in sections['EqualizedFocalLossX']
    pictures = re.findall(r'!\[.*?\]\(losses/(.*?)\)', page)
    assert pictures == ['overview.png', *map(file_name, EXAMPLES)]
    committed = {path.name: path.stat().st_size for path in (ROOT / 'docs/losses').iterdir()}
    assert set(committed) == set(pictures) and max(committed.values()) < 60_000


@pytest.mark.parametrize('picture', [OVERVIEW, *map(file_name, EXAMPLES)])
def test_picture_is_not_stale(picture):
    content = loss_gallery.content_of(ROOT / 'docs/losses' / picture)
    shown = [k for k in EXAMPLES if picture in (OVERVIEW, file_name(k))]
    assert list(content) == shown
    for title in shown:
        now = pytest.approx(samples(EXAMPLES[title]), rel=2e-5, abs=1e-12)
        assert content[title] == now, f'{picture} is stale: make docs'


def test_markdown():
    text = (
        'A :math:`x^2` of :func:`f`, ``g``.\n\n.. math:: a \\\n    b\n\nwith c.\n\n.. math::\n    d'
    )
    assert markdown(text) == (
        'A $`x^2`$ of `f`, `g`.\n\n```math\na \\\nb\n```\n\nwith c.\n\n```math\nd\n```'
    )


@pytest.fixture
def few_losses(monkeypatch):
    """Two new losses beside the focal loss, which BCE is made of."""

    class BrandNewLoss(DenseClsLoss):
        """My loss, of nobody.

        Args:
            kwargs: none.
        """

        def __init__(self, *, power: float = 2.0, **kwargs):
            super().__init__(**kwargs)
            self.power = power

        def elementwise(self, x, t, f):
            return (x.sigmoid() - t.score).abs() ** self.power

    class PairwiseLoss(DenseClsLoss):
        """Every positive comes before every negative.

        .. math:: \\sum_{i,j} \\sigma(x_j - x_i)
        """

        needs_whole_batch = True

        def total(self, batch, factor, divisor):
            positive = batch.target.positive
            pairs = batch.x[~positive][:, None] - batch.x[positive][None]
            return factor * pairs.sigmoid().sum()

    others = {k: v for k, v in MODELS.module_dict.items() if k not in classification_losses()}
    few = [FocalLossX, BrandNewLoss, PairwiseLoss]
    few = {loss.__name__: loss for loss in few}
    monkeypatch.setattr(MODELS, '_module_dict', {**others, **few})


@pytest.mark.usefixtures('few_losses')
def test_a_new_loss_shows_up_by_itself(tmp_path):
    out = tmp_path / 'deep' / 'pictures'
    assert loss_gallery.main(['--out', str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        'BrandNewLoss.png',
        'FocalLossX.png',
        'FocalLossX-softmax.png',
        'PairwiseLoss.png',
        'overview.png',
    }
    page = (tmp_path / 'deep' / 'pictures.md').read_text()
    assert '## BrandNewLoss\n\nMy loss, of nobody.\n\n`power=2.0`\n' in page
    overview = loss_gallery.content_of(out / 'overview.png')
    assert list(overview) == ['FocalLossX', 'FocalLossX, softmax', 'BrandNewLoss']


@pytest.mark.usefixtures('few_losses')
def test_a_loss_of_the_whole_batch_is_shown_by_its_gradient_in_a_batch(tmp_path):
    config = {'type': 'PairwiseLoss', 'loss_weight': 2.0}
    x, y = BATCH_LOGITS.tolist(), BATCH_QUALITIES
    slopes = [0.0] * len(x)
    for i in range(len(x)):
        for j in range(len(x)):
            if y[i] and not y[j]:
                p = 1 / (1 + math.exp(x[i] - x[j]))
                slopes[i] -= 2 * p * (1 - p)
                slopes[j] += 2 * p * (1 - p)
    assert gradient_in_batch(config).tolist() == pytest.approx(slopes)
    assert not has_curves(config) and has_curves({'type': 'BrandNewLoss'})
    page = loss_page('pictures')
    section = page.partition('## PairwiseLoss\n')[2]
    assert 'no curve over the logit' in page
    assert '```math\n\\sum_{i,j} \\sigma(x_j - x_i)\n```' in section
    assert '![PairwiseLoss](pictures/PairwiseLoss.png)' in section
    loss_gallery.draw_loss('PairwiseLoss', config, tmp_path / 'picture.png')
    with Image.open(tmp_path / 'picture.png') as picture:
        assert picture.size == (760, 360) and len(picture.getcolors()) > 10


def test_the_losses_of_a_config(tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text(
        'model = dict(bbox_head=[dict(loss_cls=dict(type="SlideLossX", loss_weight=2.0)),'
        ' dict(loss_cls=dict(type="FocalLoss"))], loss=dict(type="QualityFocalLossX"))'
    )
    assert loss_gallery.main(['--config', str(config), '--out', str(tmp_path / 'out')]) == 0
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'model.bbox_head.0.loss_cls.png', 'model.loss.png'}
    assert not (tmp_path / 'out.md').exists()
    with Image.open(tmp_path / 'out' / 'model.loss.png') as picture:
        assert picture.size == (760, 540) and len(picture.getcolors()) > 10
    config.write_text('model = dict(bbox_head=dict(loss_cls=dict(type="FocalLoss")))')
    with pytest.raises(SystemExit) as stop:
        loss_gallery.main(['--config', str(config), '--out', str(tmp_path / 'out')])
    assert stop.value.code == 2 and '`config`' in capsys.readouterr().err
