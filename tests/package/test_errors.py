"""Every check of an argument has the same wording, and one home that needs no other package."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmfocalx import errors
from mmfocalx.losses import checks

PACKAGE = Path(errors.__file__).parent
STATES_OF_RUNS_AND_FILES = (
    'analysis/',
    'classification/dataset.py',
    'compare/',
    'datasets/image_files.py',
    'engine/num_classes.py',
    'evaluation/detection_files.py',
    'evaluation/ground_truth.py',
    'files.py',
    'sweep/',
)
ABOUT_A_SUBCLASS = ('models/detr_heads/query_head.py',)
BEFORE_THE_PACKAGE_IS_IMPORTED = ('compat.py',)
HOMES_OF_THE_WORDING = ('errors.py', 'losses/checks.py')
OWN_WORDS = (
    STATES_OF_RUNS_AND_FILES
    + ABOUT_A_SUBCLASS
    + BEFORE_THE_PACKAGE_IS_IMPORTED
    + HOMES_OF_THE_WORDING
)


@pytest.mark.parametrize(
    ('check', 'bounds', 'expected', 'inside', 'outside'),
    [
        ('number', {}, 'a finite number', [-1e30, 0, 2.5], [math.inf, math.nan]),
        ('number', dict(low=0), 'a finite number of at least 0', [0, 7], [-1e-9, math.inf]),
        ('number', dict(high=2), 'a finite number of at most 2', [2, -7], [2.1, -math.inf]),
        ('number', dict(above=0), 'a finite number above 0', [1e-9], [0, -1, math.inf]),
        ('number', dict(below=2), 'a finite number below 2', [1.9], [2, 3, -math.inf]),
        ('number', dict(low=0, high=1), 'a finite number in [0, 1]', [0, 1], [-0.1, 1.1]),
        ('number', dict(low=0, below=1), 'a finite number in [0, 1)', [0, 0.99], [1, -0.1]),
        ('number', dict(above=0, high=1), 'a finite number in (0, 1]', [0.01, 1], [0, 1.1]),
        ('number', dict(above=0, below=1), 'a finite number in (0, 1)', [0.5], [0, 1]),
        ('integer', {}, 'an integer', [-3, 0, np.int64(4)], []),
        ('integer', dict(low=1), 'an integer of at least 1', [1, 9], [0, -1]),
        ('integer', dict(low=0, high=2), 'an integer in [0, 2]', [0, 2], [-1, 3]),
    ],
)
def test_numbers_within_bounds_pass_and_others_are_told_the_bounds(
    check: str, bounds: dict[str, float], expected: str, inside: list[Any], outside: list[Any]
) -> None:
    call = getattr(errors, f'check_{check}')
    for value in inside:
        assert call('x', value, **bounds) == value
    for value in outside:
        sentence = f'Expected argument `x` to be {expected}, but got {value!r}.'
        with pytest.raises(ValueError, match=f'^{re.escape(sentence)}$'):
            call('x', value, **bounds)


@pytest.mark.parametrize('value', [True, None, '1', [1], 1j])
@pytest.mark.parametrize('check', ['check_number', 'check_integer'])
def test_what_is_no_number_is_a_type_error(check: str, value: object) -> None:
    with pytest.raises(TypeError, match=r'Expected argument `x` to be an? (number|integer), but'):
        getattr(errors, check)('x', value)


def test_a_hint_follows_the_sentence() -> None:
    with pytest.raises(KeyError) as caught:
        errors.wrong('x', 'y', 1, KeyError, hint='Try 2.')
    assert caught.value.args == ('Expected argument `x` to be y, but got 1. Try 2.',)


def test_the_losses_use_the_same_checks() -> None:
    shared = {name for name in vars(errors) if name.startswith('check_')} | {'wrong'}
    assert len(shared) == 5
    for name in shared:
        assert getattr(checks, name) is getattr(errors, name)


def test_the_checks_need_no_other_package() -> None:
    code = f'import runpy; runpy.run_path({errors.__file__!r})["check_number"]("x", 1)'
    subprocess.run([sys.executable, '-S', '-E', '-c', code], check=True)


def test_no_module_words_an_error_of_an_argument_by_itself() -> None:
    own_words = []
    for path in sorted(PACKAGE.rglob('*.py')):
        relative = path.relative_to(PACKAGE).as_posix()
        if relative.startswith(OWN_WORDS):
            continue
        raised = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)
        ]
        own_words += [
            f'{relative}:{node.lineno}'
            for node in raised
            if node.exc and ast.unparse(node.exc).startswith(('ValueError', 'TypeError'))
        ]
    assert own_words == []
