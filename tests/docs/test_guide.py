"""CONTRIBUTING's guide, followed in a copy of the tree: the loss works and is in every table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('matplotlib')
pytest.importorskip('hotcoco')

ROOT = Path(__file__).resolve().parents[2]
PARTS = ('mmfocalx', 'benchmark', 'configs', 'docs', 'tools', 'tests')
STEP = re.compile(r'`([\w./-]+\.py)`[^`]*(?:`fcos`)?:\n\n```(\w+)\n(.*?)^```$', re.M | re.S)
DETECTORS = ('retinanet', 'fcos')


def apply(hunk: str, text: str) -> str:
    """Put the lines with + where the others are."""
    lines = hunk.splitlines(keepends=True)
    old = ''.join(line[1:] for line in lines if line[0] == ' ')
    assert text.count(old) == 1 or not text, f'not there, or not once:\n{old}'
    return text.replace(old, ''.join(line[1:] for line in lines), 1)


def follow(guide: str, clone: Path) -> dict[str, int]:
    """Change or write the files that the steps name; the number of lines that each gains."""
    gained = {}
    for name, language, block in STEP.findall(guide):
        for detector in DETECTORS if 'retinanet' in name else DETECTORS[:1]:
            file = clone / name.replace('retinanet', detector)
            before = file.read_text() if file.exists() else ''
            text = block if language == 'python' else before
            if language == 'diff':
                for hunk in block.replace('retinanet', detector).split('@@\n'):
                    text = apply(hunk, text)
            file.write_text(text)
            gained[str(file.relative_to(clone))] = text.count('\n') - before.count('\n')
    return gained


@pytest.fixture(scope='module')
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('clone')
    ignored = shutil.ignore_patterns('__pycache__')
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    for file in ('README.md', 'CONTRIBUTING.md', 'Makefile', 'pyproject.toml'):
        shutil.copy(ROOT / file, folder)
    guide = (folder / 'CONTRIBUTING.md').read_text()
    assert len(follow(guide, folder)) == 7
    run(folder, 'tools/docs/write_pages.py')
    return folder


def run(clone: Path, *arguments: str) -> None:
    environment = {**os.environ, 'PYTHONPATH': str(clone)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    'tests',
    [
        ('tests/losses', '-k', 'MyLossX'),
        ('tests/docs/test_generated_pages.py', 'tests/docs/test_doctests.py'),
        ('tests/docs/test_loss_gallery.py',),
        ('tests/package/test_configs.py', '-k', 'my-loss or every'),
        ('tests/heads/test_matrix.py', '-k', 'MyLossX'),
    ],
    ids=lambda tests: tests[0],
)
def test_followed_step_by_step(clone: Path, tests: tuple[str, ...]) -> None:
    run(clone, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', *tests)


def test_it_is_in_every_table(clone: Path) -> None:
    for page in ('docs/losses.md', 'docs/heads.md', 'README.md'):
        assert 'MyLossX' in (clone / page).read_text(), page
    assert (clone / 'docs/losses/MyLossX.png').is_file()
    run(clone, '-c', 'from benchmark.cases import loss_names; assert "MyLossX" in loss_names()')
