"""The code of README, CONTRIBUTING and docs: configs build, Python runs, commands exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip('mmdet')

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from helpers.tiny_runs import run_quickly

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]

# What a block leaves to its reader, by page: the text and what stands in its place here.
LEFT_OUT = {
    'README.md': {
        "_base_ = [..., '../_base_/": (
            "_base_ = ['retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py', '../_base_/"
        ),
    },
    'export.md': {
        "'my_config.py'": (
            "__import__('mmfocalx').config_path('fcos/fcos_r18-w16_fpn_focal_12e_bccd.py')"
        ),
        "detector = export.load_detector(config, 'epoch_12.pth')": (
            "init_default_scope('mmdet'); detector = MODELS.build(config.model).eval()"
        ),
        'from mmfocalx.engine import export': (
            'from mmdet.registry import MODELS; from mmengine.registry import init_default_scope; '
            'from mmfocalx.engine import export'
        ),
        "'an_image.jpg'": repr(str(ROOT / 'docs/detections.jpg')),
        "file = 'detector.onnx'": "file = __import__('tempfile').mkstemp('.onnx')[1]",
    },
    'analysis.md': {
        "open('calibrator.json')": (
            "__import__('io').StringIO("
            '\'{"classes": {"zero": {"scores": [0.2, 0.8], "calibrated": [0, 1]}}}\')'
        ),
    },
    'own_data.md': {
        "COCO.from_voc('my_data').split(val_frac=0.2, test_frac=0.2)": '()',
        "COCO.from_voc('my_data').dataset": 'None',
        "for split in ('train', 'val', 'test'):": 'for split in ():',
        "_base_ = 'focal.py'": (
            "_base_ = '../configs/retinanet/retinanet_r18-w16_fpn_focal_12e_bccd.py'"
        ),
        "str(run / Path((run / 'last_checkpoint').read_text()).name)": 'None',
        "'work_dirs/sweep-varifocal/best.py'": repr(
            str(ROOT / 'configs/retinanet/retinanet_r18-w16_fpn_varifocal_12e_bccd.py')
        ),
        "json.loads(Path('work_dirs/threshold/thresholds.json').read_text())['classes']": (
            "__import__('collections').defaultdict(lambda: {'lrp': {'threshold': 0.0}})"
        ),
        "'new.jpg'": repr(str(ROOT / 'docs/detections.jpg')),
    },
    'CONTRIBUTING.md': {'\nfrom .': '\nfrom mmfocalx.losses.'},  # of a file of that package
}
# A loss that a page defines is called as well.
CALL_LOSSES = """
import torch
from mmfocalx.losses import DenseClsLoss
for loss in DenseClsLoss.__subclasses__():
    if loss.__module__ == '__main__':
        loss()(torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 3])).backward()
"""
# Commands that are not ours; whether their arguments are right is not asked.
OTHERS = {'pip', 'cd', 'git', 'export', 'source', 'coco'}


class Block(NamedTuple):
    """A fenced block of a page, whose first line of code is number ``line``."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def is_config(self) -> bool:
        """Whether it sets what MMEngine or mmdet read."""
        names = {
            target.id
            for statement in ast.parse(self.code).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        return bool(names & {'_base_', 'model', 'custom_imports'})


def fenced_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    left_out = LEFT_OUT.get(page.name, {})
    blocks = []
    for found in re.finditer(r'^```(\w+)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        code = found[2]
        for hole, filling in left_out.items():
            code = code.replace(hole, filling)
        blocks.append(Block(page, text[: found.start(2)].count('\n') + 1, found[1], code))
    return blocks


def expanded(script: str) -> list[tuple[str, ...]]:
    """The words of each command of a shell script, after bash has put in variables and braces."""
    assert not re.search(r'[`|;<>]|\$\(|(?<!&)&(?!&)', script), f'more than commands: {script}'
    lines = script.replace('\\\n', ' ').replace(' && ', '\n').splitlines()
    for number, line in enumerate(lines):
        words = shlex.split(line, comments=True)
        if not all(re.match(r'\w+=', word) for word in words):
            lines[number] = rf"printf '%s\037' {line}"
        lines[number] += "\nprintf '\\n'"
    out = subprocess.run(['bash', '-euc', '\n'.join(lines)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [tuple(line.split('\037')[:-1]) for line in out.stdout.splitlines() if line]


def commands(page: Path) -> list[tuple[str, ...]]:
    """The words of each command in the blocks of a page, and of those within its sentences."""
    scripts = [block.code for block in fenced_blocks(page) if block.language in ('sh', 'bash')]
    spans = re.findall(r'(?<!`)`((?:python |make |tools/)[^`]*)`', page.read_text())
    scripts += [' '.join(span.split()) for span in spans]
    return [words for script in scripts for words in expanded(script)]


ALL_BLOCKS = [block for page in PAGES for block in fenced_blocks(page)]
CONFIGS = [block for block in ALL_BLOCKS if block.language == 'python' and block.is_config]
COMMANDS = sorted({(page.name, *words) for page in PAGES for words in commands(page)})


@pytest.fixture(scope='module')
def folder_of_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the shipped configs, from which ``../configs`` is theirs as well."""
    configs = tmp_path_factory.mktemp('clone') / 'configs'
    shutil.copytree(ROOT / 'configs', configs)
    (configs / 'configs').symlink_to(configs, target_is_directory=True)
    return configs / 'retinanet'


@pytest.mark.parametrize('block', CONFIGS, ids=lambda block: f'{block.page.name}:{block.line}')
def test_model_of_a_config_is_built(block: Block, folder_of_configs: Path) -> None:
    file = folder_of_configs / f'block_{block.line}.py'
    file.write_text(block.code)
    config = Config.fromfile(file)
    init_default_scope('mmdet')
    assert isinstance(MODELS.build(config.model), nn.Module)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """All blocks of a page that are no configs, as one script with the page's line numbers."""
    lines = [''] * (1 + len(page.read_text().splitlines()))
    blocks = [b for b in ALL_BLOCKS if b.page == page and b.language == 'python']
    for block in blocks:
        if not block.is_config:
            code = block.code.splitlines()
            lines[block.line - 1 : block.line - 1 + len(code)] = code
    if not any(lines):
        return
    script, log = tmp_path / page.with_suffix('.py').name, tmp_path / 'log'
    script.write_text('\n'.join(lines) + CALL_LOSSES)
    assert run_quickly(script, log=log) == 0, log.read_text()


@cache
def help_of(script: str, folder: Path) -> str:
    log = folder / script.replace('/', '-')
    assert run_quickly(ROOT / script, '--help', log=log) == 0, log.read_text()
    return log.read_text()


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_command_exists(command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    _, *words = command
    while re.match(r'\w+=', words[0]):  # the environment
        words = words[1:]
    program, *arguments = words
    if Path(program).name == 'python':
        if arguments[0] == '-m':
            assert importlib.util.find_spec(arguments[1]), arguments[1]
            return
        program, *arguments = arguments
    if program == 'make':
        subprocess.run(['make', '--dry-run', *arguments], cwd=ROOT, check=True)
    elif program.startswith('tools/'):
        assert (ROOT / program).is_file(), program
        for word in arguments:
            if word.startswith('configs/'):
                assert (ROOT / word).exists(), word
        if program.endswith('.py'):
            text = help_of(program, tmp_path_factory.getbasetemp())
            options = {word.partition('=')[0] for word in arguments if word.startswith('--')}
            assert options <= set(re.findall(r'--[\w-]+', text))
    else:
        assert program in OTHERS, program


def test_what_is_filled_in_is_still_left_out() -> None:
    assert {*LEFT_OUT} <= {page.name for page in PAGES}
    for page in PAGES:
        holes, text = LEFT_OUT.get(page.name, {}), page.read_text()
        assert [hole for hole in holes if hole not in text] == []


def test_blocks_are_found() -> None:
    readme = [block.language for block in ALL_BLOCKS if block.page.name == 'README.md']
    assert {'python', 'sh'} <= set(readme)
    assert all(text.count('```') % 2 == 0 for text in (page.read_text() for page in PAGES))
    assert len(ALL_BLOCKS) == sum(page.read_text().count('\n```\n') for page in PAGES)
