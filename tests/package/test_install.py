"""The package as it is installed: from a source distribution, through a wheel, and from a clone."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmfocalx
from mmfocalx.compat import METRIC_PACKAGES

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ('mmfocalx', 'configs', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE')
CONFIG = 'retinanet/retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py'


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    env = {} if path is None else {'PYTHONPATH': str(path)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**environment(), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def environment() -> dict[str, str]:
    import os

    return {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}


def config_names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*.py')}


@pytest.fixture(scope='module')
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it, built from a source distribution."""
    tmp = tmp_path_factory.mktemp('install')
    source = tmp / 'source'
    source.mkdir()
    ignore = shutil.ignore_patterns('__pycache__')
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    build = f'from setuptools import build_meta; build_meta.build_sdist({str(tmp)!r})'
    run('-c', build, cwd=source)
    (sdist,) = tmp.glob('mmfocalx-*.tar.gz')
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--quiet']
    run('-m', 'pip', 'install', *options, '--target', tmp / 'site', sdist, cwd=tmp)
    shutil.rmtree(source)
    return tmp / 'site'


def test_another_project_inherits_from_an_installed_config(installed: Path, tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(
        f"_base_ = [__import__('mmfocalx').config_path({CONFIG!r})]\nmax_epochs_of_mine = 3\n"
    )
    code = (
        'from mmengine.config import Config; import mmfocalx\n'
        "cfg = Config.fromfile('mine.py')\n"
        'print(mmfocalx.__file__)\n'
        'print(cfg.model.bbox_head.loss_cls.type, cfg.max_epochs_of_mine)\n'
    )
    where, what = run('-c', code, cwd=tmp_path, path=installed).splitlines()[-2:]
    assert Path(where) == installed / 'mmfocalx' / '__init__.py'
    assert what == 'VarifocalLossX 3'


def test_every_config_and_every_module_is_shipped(installed: Path) -> None:
    assert config_names(installed / 'mmfocalx' / 'configs') == config_names(ROOT / 'configs')
    modules = {path.relative_to(ROOT) for path in (ROOT / 'mmfocalx').rglob('*.py')}
    assert modules
    assert not [module for module in modules if not (installed / module).is_file()]
    templates = {path.relative_to(ROOT) for path in (ROOT / 'mmfocalx').rglob('*.j2')}
    assert templates
    assert not [name for name in templates if not (installed / name).is_file()]


def test_losses_have_their_values_where_they_are_installed(installed: Path, tmp_path: Path) -> None:
    """The values derived by hand, outside the checkout."""
    shutil.copy(ROOT / 'tests/losses/test_values_by_hand.py', tmp_path)
    options = ['-q', '-p', 'no:cacheprovider']
    assert 'passed' in run('-m', 'pytest', *options, '.', cwd=tmp_path, path=installed)


def required(installed: Path, *extras: str) -> set[str]:
    """What pip installs with the package and these extras of it."""
    (metadata,) = installed.glob('mmfocalx-*.dist-info/METADATA')
    lines = message_from_string(metadata.read_text()).get_all('Requires-Dist')
    wanted = map(Requirement, lines)
    return {
        one.name
        for one in wanted
        if not one.marker or any(one.marker.evaluate({'extra': extra}) for extra in extras)
    }


def test_no_openmmlab_stack_and_no_torch_version_is_forced(installed: Path) -> None:
    assert required(installed) == {'torch', 'packaging'}
    (metadata,) = installed.glob('mmfocalx-*.dist-info/METADATA')
    lines = metadata.read_text().splitlines()
    assert 'Requires-Dist: torch' in lines
    assert any(line.startswith('Requires-Python') and '>=3.10' in line for line in lines)


def test_what_the_metric_needs_is_optional_and_the_same_everywhere(installed: Path) -> None:
    needed = {'hotcoco', 'scipy'}
    assert required(installed, 'metric') - required(installed) == needed
    for extra in ('demo', 'report'):  # they run shipped configs, which ask for the metric
        assert needed <= required(installed, extra)
    assert needed == {*METRIC_PACKAGES}  # what the error of a missing one says to install
    assert '`pip install hotcoco scipy`' in (ROOT / 'README.md').read_text()


def test_config_path_in_a_clone_is_absolute_and_in_the_clone() -> None:
    assert mmfocalx.config_path('_base_/datasets/bccd.py') == str(
        ROOT / 'configs/_base_/datasets/bccd.py'
    )


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('_base_/datasets/bcd.py', 'Close matches: _base_/datasets/bccd.py'),
        ('_base_/datasets/bccd', 'Close matches: _base_/datasets/bccd.py'),
        ('../setup.py', ''),
        (str(ROOT / 'configs/_base_/datasets/bccd.py'), ''),
        (None, 'None'),
        ('?', f'in {ROOT / "configs"}'),
    ],
)
def test_an_unknown_config_is_an_error_with_close_names(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match='Expected argument `name` to be a config') as caught:
        mmfocalx.config_path(name)
    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)


def test_what_is_built_leaves_nothing_of_a_former_build(tmp_path: Path) -> None:
    """A config that was removed must not come back from a build folder."""
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    stale = tmp_path / 'build/lib/mmfocalx/configs/removed.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    run('setup.py', '-q', 'build', cwd=tmp_path)
    assert config_names(tmp_path / 'build/lib/mmfocalx/configs') == config_names(ROOT / 'configs')


CLASHING = (
    # In one file, the second would call the template of the first: its own function takes a double.
    'template <typename T> T part(T x) { return x + 1; }\n'
    'extern "C" int template_@(int x) { return part(x); }\n',
    'static int part(double x) { return static_cast<int>(x) + 20; }\n'
    'extern "C" int overload_@(int x) { return part(x); }\n',
    # The macro would break the function of its name.
    '#define TWICE(x) (2 * (x))\nextern "C" int macro_@(int x) { return TWICE(x); }\n',
    'extern "C" int no_macro_@(int x) {\n  int TWICE(x);\n  TWICE += 300;\n  return TWICE;\n}\n',
    # The namespace would add another `size_of`, which an int fits better.
    'namespace other { inline int size_of(int x) { return -x; } }\n'
    'using namespace other;\nextern "C" int opened_@(int x) { return size_of(x); }\n',
    'struct Long_@ { long x; Long_@(long x) : x(x) {} };\n'
    'static int size_of(Long_@ value) { return value.x; }\n'
    'extern "C" int closed_@(int x) { return size_of(x); }\n',
)


@pytest.mark.skipif(shutil.which('g++') is None, reason='needs a C++ compiler')
def test_united_sources_compute_what_each_file_alone_does(tmp_path: Path) -> None:
    sources = [code.replace('@', str(copy)) for code in CLASHING for copy in range(4)]
    functions = [re.search(r'extern "C" int (\w+)', code)[1] for code in sources]
    results = []
    for folder in (tmp_path / 'alone', tmp_path / 'united'):
        folder.mkdir()
        for name, code in zip(functions, sources, strict=True):
            (folder / f'{name}.cpp').write_text(code)
        if folder.name == 'united':
            run(ROOT / 'tools/unite_sources.py', folder, cwd=tmp_path)
            assert len(list(folder.glob('*.cpp'))) < len(sources) / 2
        library = folder / 'library.so'
        command = ['g++', '-shared', '-fPIC', '-o', library, *folder.glob('*.cpp')]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(library))
        results.append([getattr(loaded, function)(7) for function in functions])
    assert results[0] == results[1]
    assert results[0][::4] == [8, 27, 14, 307, -7, 7]


@pytest.mark.parametrize('words', [[], ['fork'], ['frok', 'env'], ['fork', 'env', 'more']])
def test_make_env_refuses_before_it_makes_anything(words: list[str], tmp_path: Path) -> None:
    script = ROOT / 'tools/make_env.sh'
    done = subprocess.run(
        ['bash', str(script), *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'usage: tools/make_env.sh {fork|upstream} DIRECTORY\n'
    assert not (ROOT / 'env').exists()
