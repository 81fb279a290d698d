"""Generated pages are what their generators write now, and they know every loss."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('hotcoco')

import loss_table
from benchmark.cases import loss_names
from facts import Source, idea, own_arguments, sources
from mmfocalx.losses import DenseClsLoss, FocalDiceLossX, PolyFocalLossX
from mmfocalx.losses.catalogue import classification_losses, losses
from write_pages import texts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('page', texts(), ids=lambda page: page.name)
def test_page_is_not_stale(page: Path) -> None:
    assert page.read_text() == texts()[page], f'{page.name} is stale: make docs'


def test_every_loss_is_in_every_table() -> None:
    headings = re.findall(r'^## (\w+)$', (ROOT / 'docs/losses.md').read_text(), re.MULTILINE)
    rows = re.findall(r'^\| `(\w+)` \|', loss_table.loss_table(), re.MULTILINE)
    columns = (ROOT / 'docs/heads.md').read_text().partition('| head | ')[2].partition(' |\n')[0]
    softmax = {name for name, loss in classification_losses().items() if loss.supports_softmax}
    assert headings == list(classification_losses())
    assert sorted(rows) == sorted(losses())
    assert sorted(columns.split(' | ')) == sorted(
        [*classification_losses(), *(f'{name}, softmax' for name in softmax)]
    )
    assert {*classification_losses()} <= {*loss_names()}


def test_quality_awareness_in_the_page_of_heads_is_that_of_the_class() -> None:
    lines = (ROOT / 'docs/heads.md').read_text().splitlines()
    (titles,) = {line for line in lines if line.startswith('| head | ') and 'reason' not in line}
    (row,) = (line for line in lines if line.startswith('| RetinaHead → RetinaHeadX |'))
    for title, cell in list(zip(titles.split('|'), row.split('|'), strict=True))[2:-1]:
        loss = classification_losses()[title.split(',')[0].strip()]
        assert cell.strip() == ('○' if loss.quality_aware else '✓')


def test_facts_of_a_docstring() -> None:
    class MineLossX(PolyFocalLossX):
        """Mine counts
        as much as yours.

        Mine, Li-Smith et al. 2030 (Mine), https://example.org/1.2: it is like
        yours, Doe et al. 2029,
        https://example.org/v/3, eq. 4.

        Args:
            weight: of Nobody et al. 2020, https://example.org/no.
        """

        def __init__(self, *, weight: float, gamma: float = 7.0, **kwargs: object) -> None:
            super().__init__(gamma=gamma, **kwargs)

    assert idea(MineLossX) == 'Mine counts as much as yours.'
    assert sources(MineLossX) == [
        Source('Smith', '2030', 'https://example.org/1.2'),
        Source('Doe', '2029', 'https://example.org/v/3'),
    ]
    assert own_arguments(MineLossX) == {
        'gamma': 7.0, 'alpha': 0.25, 'epsilon': 1.0, 'weight': inspect.Parameter.empty,
    }  # fmt: skip
    assert list(own_arguments(FocalDiceLossX))[:2] == ['gamma', 'alpha']
    assert own_arguments(DenseClsLoss) == {}


def test_a_loss_without_a_source_is_named() -> None:
    class NobodysLossX(DenseClsLoss):
        """No paper."""

    with pytest.raises(ValueError, match=r'NobodysLossX.*No paper'):
        sources(NobodysLossX)


def test_a_table_replaces_the_one_between_the_marks_only() -> None:
    page = f'before\n{loss_table.BEGIN}\nold\n{loss_table.END}\nafter'
    written = loss_table.with_table(page)
    assert written.startswith('before\n') and written.endswith('\nafter') and 'old' not in written
    assert loss_table.with_table(written) == written
    for broken in ('none', page + page, f'{loss_table.END}\n{loss_table.BEGIN}\n'):
        with pytest.raises(ValueError, match='table of losses'):
            loss_table.with_table(broken)


def test_the_command_writes_all_pages(tmp_path: Path) -> None:
    clone = tmp_path / 'clone'
    for folder in ('mmfocalx', 'benchmark', 'tools', 'tests/helpers'):
        shutil.copytree(ROOT / folder, clone / folder)
    (clone / 'docs' / 'losses').mkdir(parents=True)
    (clone / 'README.md').write_text(f'{loss_table.BEGIN}\n{loss_table.END}\n')
    subprocess.run([sys.executable, 'tools/docs/write_pages.py'], cwd=clone, check=True)
    for page in ('docs/losses.md', 'docs/heads.md'):
        assert (clone / page).read_text() == (ROOT / page).read_text()
    assert (clone / 'README.md').read_text() == (
        f'{loss_table.BEGIN}\n{loss_table.loss_table()}\n{loss_table.END}\n'
    )
    assert {path.name for path in (clone / 'docs/losses').iterdir()} == {
        path.name for path in (ROOT / 'docs/losses').iterdir()
    }
