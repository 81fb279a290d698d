"""The frame of every report: one file that needs nothing else, in one look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from mmfocalx.reporting.gaps import Gaps

FRAME = 'page.html.j2'


def rendered(
    package: str,
    template: str,
    gaps: Gaps,
    filters: Mapping[str, Callable[..., str]],
    **context: Any,
) -> str:
    """A page; a template begins with ``{% extends 'page.html.j2' %}`` and fills title and main.

    A template wraps what may fail in ``{% call part('title') %}``: where it fails, the page says
    so, and the rest is there.

    Args:
        package: Where the template is.
        template: Its file name.
        gaps: Where to add the parts that cannot be written.
        filters: What the template writes numbers with.
        context: What the template reads. Functions among it are called by the template.
    """

    def part(title: str, caller: Callable[[], str]) -> str:
        text: str = Markup('<p class="gap">Missing: {}.</p>').format(title)
        with gaps.part(title):
            text = caller()
        return text

    sources = {FRAME: _source('mmfocalx.reporting', FRAME), template: _source(package, template)}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, loader=DictLoader(sources))  # fmt: skip
    environment.filters.update(filters)
    return environment.get_template(template).render(gaps=gaps, part=part, **context)


def _source(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding='utf-8')
