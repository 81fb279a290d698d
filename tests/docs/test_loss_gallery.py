"""The pictures of the losses: their curves against scalar loops, and what the page lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('hotcoco')

from mmengine.registry import MODELS
from PIL import Image

import loss_gallery
from helpers import reference, reference_formulas
from loss_curves import BALANCES, LOGITS, curves, examples
from loss_page import file_name, loss_page, markdown
from mmfocalx.losses import DenseClsLoss, FocalLossX
from mmfocalx.losses.catalogue import classification_losses

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    title: config for name in classification_losses() for title, config in examples(name).items()
}
SOME = slice(3, None, 41)  # of the logits


def expected(config, curve, balance):
    """Value and gradient at some logits, by a loop in Python floats and finite differences."""
    settings = dict(config)
    formula = reference_formulas.FORMULAS[settings.pop('type')]
    softmax = not settings.get('use_sigmoid', True)
    logits = LOGITS[SOME].tolist()
    labels = [int(curve.quality == 0)] * len(logits)
    rows = tuple((x, 0.0) if softmax else (x,) for x in logits)
    loop = reference.classification_loss(
        formula,
        settings,
        ('labels', labels) if softmax else ('tuple', labels, [curve.quality] * len(logits)),
        lead=(len(rows),),
        channels=len(rows[0]),
        frozen=rows,
        reduction='none',
        state=dict(pos_grad=[balance], neg_grad=[1.0]),
    )
    gradient = reference.gradient(lambda moved: sum(loop(moved)), rows, 1e-4)
    return loop(rows), [row[0] for row in gradient]


@pytest.mark.parametrize('title', EXAMPLES)
def test_curves(title):
    config = EXAMPLES[title]
    found = curves(config)
    assert {c.quality for c in found} >= {1.0, 0.0}
    assert len(found) == (2 if 'softmax' in title else 2 * len(BALANCES) if 'Equal' in title else 4)
    for index, curve in enumerate(found):
        value, gradient = expected(config, curve, BALANCES[min(index // 2, 2)])
        assert curve.value[SOME].tolist() == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert curve.gradient[SOME].tolist() == pytest.approx(gradient, rel=1e-5, abs=1e-8)


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


def test_the_page_lists_every_loss():
    page = (ROOT / 'docs/losses.md').read_text()
    assert page == loss_page('losses'), (
        'run: python tools/analysis/plot_losses.py --out docs/losses'
    )
    sections = dict(re.findall(r'^## (\w+)\n(.*?)(?=^## |\Z)', page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(classification_losses())
    for name, text in sections.items():
        assert 'https://arxiv.org/abs/' in text and ('```math' in text or '$`' in text), name
    assert sections['FocalLossX'].count('```math') == 2
    pictures = re.findall(r'!\[.*?\]\(losses/(.*?)\)', page)
    assert pictures == ['overview.png', *map(file_name, EXAMPLES)]
    committed = {path.name: path.stat().st_size for path in (ROOT / 'docs/losses').iterdir()}
    assert set(committed) == set(pictures) and max(committed.values()) < 60_000


def test_markdown():
    text = (
        'A :math:`x^2` of :func:`f`, ``g``.\n\n.. math:: a \\\n    b\n\nwith c.\n\n.. math::\n    d'
    )
    assert markdown(text) == (
        'A $`x^2`$ of `f`, `g`.\n\n```math\na \\\nb\n```\n\nwith c.\n\n```math\nd\n```'
    )


def test_a_new_loss_shows_up_by_itself(tmp_path, monkeypatch):
    class BrandNewLoss(DenseClsLoss):
        """My loss, of nobody.

        Args:
            kwargs: none.
        """

        def __init__(self, *, power: float = 2.0, **kwargs):
            super().__init__(**kwargs)
            self.power = power

        def elementwise(self, x, t):
            return (x.sigmoid() - t.score).abs() ** self.power

    others = {k: v for k, v in MODELS.module_dict.items() if k not in classification_losses()}
    few = {'FocalLossX': FocalLossX, 'BrandNewLoss': BrandNewLoss}  # BCE is the focal loss's
    monkeypatch.setattr(MODELS, '_module_dict', {**others, **few})
    out = tmp_path / 'deep' / 'pictures'
    assert loss_gallery.main(['--out', str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        'BrandNewLoss.png',
        'FocalLossX.png',
        'FocalLossX-softmax.png',
        'overview.png',
    }
    page = (tmp_path / 'deep' / 'pictures.md').read_text()
    assert '## BrandNewLoss\n\nMy loss, of nobody.\n\n`power=2.0`\n' in page


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
