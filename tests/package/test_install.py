"""The package as it is installed: from a source distribution, through a wheel, and from a clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmfocalx

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
    assert (installed / 'mmfocalx/compare/report.html.j2').is_file()


def test_no_openmmlab_stack_and_no_torch_version_is_forced(installed: Path) -> None:
    (metadata,) = installed.glob('mmfocalx-*.dist-info/METADATA')
    lines = metadata.read_text().splitlines()
    required = {line for line in lines if line.startswith('Requires-Dist') and 'extra' not in line}
    needed = ('torch', 'packaging', 'hotcoco', 'scipy')
    assert required == {f'Requires-Dist: {name}' for name in needed}
    assert any(line.startswith('Requires-Python') and '>=3.10' in line for line in lines)


def test_config_path_in_a_clone_is_absolute_and_in_the_clone() -> None:
    assert mmfocalx.config_path('_base_/losses/focal.py') == str(
        ROOT / 'configs/_base_/losses/focal.py'
    )


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('_base_/losses/fokal.py', 'close matches: _base_/losses/focal.py'),
        ('_base_/losses/focal', 'close matches: _base_/losses/focal.py'),
        ('../setup.py', ''),
        (str(ROOT / 'configs/_base_/losses/focal.py'), ''),
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
