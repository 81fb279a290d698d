"""A missing package is named with the line that installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.tiny_runs import run_quickly
from mmfocalx.optional import ANALYSIS, need

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis'


def test_what_is_there_is_no_error() -> None:
    need('a tool', ANALYSIS)


def test_missing_packages_are_named_by_their_distributions() -> None:
    packages = {**ANALYSIS, 'no_such_module': 'no-such-package', 'nor_this': 'nor-this'}
    words = (
        'a tool needs no-such-package, nor-this. To install: pip install no-such-package nor-this$'
    )
    with pytest.raises(ImportError, match=words):
        need('a tool', packages)


@pytest.mark.parametrize('tool', ['dataset_stats.py', 'operating_point.py'])
def test_a_tool_says_so_before_anything_else(tool: str, tmp_path: Path) -> None:
    script, log = tmp_path / tool, tmp_path / 'log'
    source = (TOOLS / tool).read_text()
    without = (
        "import sys\nfrom mmfocalx import optional\noptional.ANALYSIS['absent'] = 'absent-one'\n"
    )
    script.write_text(without + source.replace('sys.path[0] =', 'unused ='))
    assert run_quickly(script, '--help', log=log) == 1
    assert f'ImportError: {tool} needs absent-one' in log.read_text()
