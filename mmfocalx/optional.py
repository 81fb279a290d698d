"""Packages that only some tools need."""

from __future__ import annotations

from importlib.util import find_spec

ANALYSIS = {
    'hotcoco': 'hotcoco',
    'jinja2': 'jinja2',
    'matplotlib': 'matplotlib',
    'scipy': 'scipy',
    'sklearn': 'scikit-learn',
    'tqdm': 'tqdm',
}
"""Import names with their distributions."""


def need(tool: str, packages: dict[str, str]) -> None:
    """Check that a tool's packages are installed.

    Args:
        tool: What needs them, for the message.
        packages: Import names with their distributions.

    Raises:
        ImportError: If one is missing; the message has the line that installs them.
    """
    missing = [name for module, name in packages.items() if find_spec(module) is None]
    if missing:
        raise ImportError(
            f'{tool} needs {", ".join(missing)}. To install: pip install {" ".join(missing)}'
        )
