"""One clear message for each way in which mmengine, mmcv or mmdet can fall short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import packaging
import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(packaging.__file__).parents[1]
EXPLAIN = """
import runpy, sys
print(runpy.run_path('mmfocalx/compat.py')['explain'](*sys.argv[1:]))
"""


class Site:
    """A folder of packages, the only one that a process sees beside the standard library."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def link(self, *excluded: str) -> Site:
        """Everything that is installed here but what begins with one of these."""
        for entry in SITE_PACKAGES.iterdir():
            if not entry.name.startswith(excluded):
                (self.folder / entry.name).symlink_to(entry)
        return self

    def distribution(self, name: str, version: str) -> Site:
        info = self.folder / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
        return self

    def module(self, name: str, source: str = '') -> Site:
        path = self.folder / name.replace('.', '/') / '__init__.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return self

    def install(self, distribution: str, version: str, *modules: str) -> Site:
        self.distribution(distribution, version)
        self.module(modules[0], f'__version__ = {version!r}')
        for module in modules[1:]:
            self.module(module)
        return self

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        bootstrap = f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(self.folder)!r}]\n'
        return subprocess.run(
            [sys.executable, '-S', '-E', '-c', bootstrap + code, *arguments],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
        )

    def explain(self, *names: str) -> list[str]:
        done = self.run(EXPLAIN, *names)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


MMENGINE = ('mmengine', 'mmengine.registry')
MMCV = ('mmcv', 'mmcv.ops')
MMDET = ('mmdet', 'mmdet.models', 'mmdet.datasets')


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / 'site')
    (site.folder / 'packaging').symlink_to(SITE_PACKAGES / 'packaging')
    return site


@pytest.mark.parametrize(
    'stack',
    [
        [('mmengine', '0.10.7'), ('mmcv', '2.1.0'), ('mmdet', '3.3.0')],
        [('onedl-mmengine', '0.10.12'), ('onedl-mmcv', '2.3.6'), ('onedl-mmdetection', '3.5.1')],
    ],
    ids=['upstream', 'fork'],
)
def test_either_stack_is_accepted(site: Site, stack: list[tuple[str, str]]) -> None:
    for (distribution, version), modules in zip(stack, (MMENGINE, MMCV, MMDET), strict=True):
        site.install(distribution, version, *modules)
    assert site.explain('mmdet') == ['None']


def test_a_source_tree_without_a_distribution_is_accepted(site: Site) -> None:
    site.module('mmengine', '__version__ = "0.10.7"').module('mmengine.registry')
    assert site.explain('mmengine') == ['None']


def test_nothing_is_installed(site: Site) -> None:
    assert site.explain('mmdet') == [
        'mmfocalx needs mmdet here, but:',
        '  - mmengine is not installed',
        '  - mmcv is not installed',
        '  - mmdet is not installed',
        'Supported, either of:',
        '  - onedl-mmengine>=0.10.12,<1, onedl-mmcv>=2.3.6,<3, onedl-mmdetection>=3.5.1,<4 (fork)',
        '  - mmengine>=0.10.7,<1, mmcv>=2.1.0,<2.2, mmdet>=3.3.0,<3.4 (upstream)',
        'To install (fork):',
        "  pip install 'setuptools<80' wheel ninja packaging && pip install --no-build-isolation "
        'onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 onedl-mmdetection==3.5.1',
    ]


@pytest.mark.parametrize(
    ('mmengine', 'version', 'line'),
    [
        ('mmengine', '0.10.7', '  pip install mmdet==3.3.0'),
        ('onedl-mmengine', '0.10.12', '  pip install onedl-mmdetection==3.5.1'),
    ],
)
def test_the_install_line_is_of_the_stack_in_use(
    site: Site, mmengine: str, version: str, line: str
) -> None:
    mmcv = ('mmcv', '2.1.0') if mmengine == 'mmengine' else ('onedl-mmcv', '2.3.6')
    site.install(mmengine, version, *MMENGINE).install(*mmcv, *MMCV)
    lines = site.explain('mmdet')
    assert lines[1] == '  - mmdet is not installed'
    assert lines[-1] == line


def test_an_unsupported_mmcv_is_named_and_mmdet_s_own_refusal_is_not_repeated(site: Site) -> None:
    site.install('mmengine', '0.10.7', *MMENGINE).install('mmcv', '2.2.0', *MMCV)
    site.distribution('mmdet', '3.3.0').module('mmdet', 'assert False, "incompatible"')
    lines = site.explain('mmdet')
    assert lines[1:3] == ['  - mmcv 2.2.0 is not a supported version', 'Supported, either of:']
    assert lines[-1].startswith('  pip uninstall -y mmcv && ')
    assert lines[-1].endswith('pip install --no-build-isolation mmcv==2.1.0')


def test_packages_of_two_stacks_that_refuse_each_other(site: Site) -> None:
    site.install('onedl-mmengine', '0.10.12', *MMENGINE).install('onedl-mmcv', '2.3.6', *MMCV)
    site.distribution('mmdet', '3.3.0').module('mmdet', 'assert False, "MMCV==2.3.6"')
    lines = site.explain('mmdet')
    assert lines[1] == '  - mmdet 3.3.0 cannot be imported (AssertionError: MMCV==2.3.6)'
    assert lines[-1] == '  pip uninstall -y mmdet && pip install onedl-mmdetection==3.5.1'


def test_mmcv_without_operators(site: Site) -> None:
    site.install('mmengine', '0.10.7', *MMENGINE).install('mmcv-lite', '2.1.0', *MMCV)
    site.module('mmcv.ops', 'import mmcv._ext')
    lines = site.explain('mmcv')
    assert lines[1] == (
        "  - mmcv-lite 2.1.0 cannot be imported (ModuleNotFoundError: No module named 'mmcv._ext')"
    )
    assert lines[-1].startswith('  pip uninstall -y mmcv-lite && ')
    assert site.explain('mmengine') == ['None']


def test_an_unknown_name_is_an_error(site: Site) -> None:
    done = site.run(EXPLAIN, 'mmseg')
    assert "Expected argument `names` to be among ['mmengine', 'mmcv', 'mmdet']" in done.stderr
    assert "but got 'mmseg'" in done.stderr


USE_WITHOUT_MMDET = """
import torch, mmfocalx.losses
from mmengine.registry import DATASETS, MODELS
loss = MODELS.build(dict(type='FocalLossX'))
assert loss(torch.zeros(2, 3), torch.tensor([0, 3])).isfinite()
import importlib, mmfocalx
importlib.reload(mmfocalx)
for registry, name in (
    (MODELS, 'RetinaHeadX'), (MODELS, 'FCOSHeadX'), (MODELS, 'EfficientNetLite'),
    (DATASETS, 'CheckedCocoDataset'),
):
    try:
        registry.build(dict(type=name, num_classes=3))
    except ImportError as error:
        print(error)
"""


def broken_mmdet(site: Site) -> Site:
    site.link('mmdet', 'onedl_mmdet')
    return site.module('mmdet', 'assert False, "MMCV is used but incompatible"')


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (lambda site: site.link('mmdet', 'onedl_mmdet'), 'mmdet is not installed'),
        (lambda site: site.link('mmcv', 'onedl_mmcv'), 'mmcv is not installed'),
        (broken_mmdet, '(AssertionError: MMCV is used but incompatible)'),
    ],
    ids=['no-mmdet', 'no-mmcv', 'mmdet-refuses'],
)
def test_losses_work_without_mmdet_and_the_rest_says_why_when_built(
    tmp_path: Path, make, reason: str
) -> None:
    done = make(Site(tmp_path / 'site')).run(USE_WITHOUT_MMDET)
    assert done.returncode == 0, done.stderr
    for name in ('RetinaHeadX', 'FCOSHeadX', 'EfficientNetLite', 'CheckedCocoDataset'):
        assert f'{name} cannot be built: mmfocalx needs mmdet here, but:' in done.stdout
    assert done.stdout.count(reason) == 4
    assert done.stderr == ''


@pytest.mark.parametrize(('missing', 'unharmed'), [('hotcoco', 'models'), ('scipy', 'losses')])
def test_a_metric_without_its_packages_says_so_when_built(
    tmp_path: Path, missing: str, unharmed: str
) -> None:
    code = (
        'import mmfocalx; from mmengine.registry import METRICS, MODELS\n'
        "found = {'models': 'RetinaHeadX', 'losses': 'FocalLossX'}[sys.argv[1]]\n"
        "assert MODELS.get(found).__module__.startswith(f'mmfocalx.{sys.argv[1]}.')\n"
        "METRICS.build(dict(type='ScoreQualityMetric'))\n"
    )
    done = Site(tmp_path / 'site').link(missing).run(code, unharmed)
    assert f"ScoreQualityMetric cannot be built: No module named '{missing}" in done.stderr
    assert 'pip install hotcoco scipy' in done.stderr


def test_everything_but_the_numbers_works_without_torchmetrics(tmp_path: Path) -> None:
    code = (
        'import mmfocalx; from mmengine.registry import METRICS, MODELS\n'
        "assert MODELS.get('ImageClassifierX') and MODELS.get('FocalLossX')\n"
        "METRICS.build(dict(type='ClassificationMetric'))\n"
    )
    done = Site(tmp_path / 'site').link('torchmetrics').run(code)
    assert "ClassificationMetric cannot be built: No module named 'torchmetrics'" in done.stderr
    assert 'pip install torchmetrics' in done.stderr


NEEDS_MMENGINE_ONLY = (
    'mmfocalx.losses.',
    'mmfocalx.engine.loss_signals',
    'mmfocalx.classification.',
)


def test_placeholders_stand_for_exactly_what_is_registered_without_them() -> None:
    from mmengine import registry as registries

    from mmfocalx.registration import BUILT_ON_HOTCOCO, BUILT_ON_MMDET

    entries = BUILT_ON_MMDET + BUILT_ON_HOTCOCO
    expected = {(entry.registry, name) for entry in entries for name in entry.names}
    found = {
        (kind, name)
        for kind in ('MODELS', 'DATASETS', 'METRICS', 'HOOKS', 'TRANSFORMS')
        for name, entry in getattr(registries, kind).module_dict.items()
        if entry.__module__.startswith('mmfocalx.')
        and not entry.__module__.startswith(NEEDS_MMENGINE_ONLY)
    }
    assert found == expected
