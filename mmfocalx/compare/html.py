"""``report.html``: everything about a comparison in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mmfocalx.compare.charts import charts_of
from mmfocalx.compare.comparison import AP_KINDS, NOTHING, QUALITY, Comparison
from mmfocalx.compare.detections import differing_pictures, pair_to_show
from mmfocalx.compare.evaluation import REPLICATES
from mmfocalx.compare.gaps import Gaps
from mmfocalx.compare.markdown import (
    SHOWN_QUALITY,
    digits_of,
    duration,
    number,
    signed,
    spread,
)
from mmfocalx.plotting import line_styles


def html_report(comparison: Comparison, gaps: Gaps | None = None) -> str:
    """The page.

    Args:
        comparison: What it says.
        gaps: Where to add the parts that cannot be written.
    """
    gaps = Gaps(comparison.gaps) if gaps is None else gaps

    def part(title: str, caller: Callable[[], str]) -> str:
        """A part of the template; where it fails, the page says so."""
        text: str = Markup('<p class="gap">Missing: {}.</p>').format(title)
        with gaps.part(title):
            text = caller()
        return text

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters.update(number=number, spread=spread, duration=duration, signed=signed)
    template = files('mmfocalx.compare').joinpath('report.html.j2').read_text(encoding='utf-8')
    return environment.from_string(template).render(
        comparison=comparison,
        gaps=gaps,
        part=part,
        quality=QUALITY,
        quality_tables=(list(QUALITY)[:6], list(QUALITY)[6:]),
        shown_quality=SHOWN_QUALITY,
        digits_of=digits_of,
        nothing=NOTHING,
        ap_kinds=AP_KINDS,
        replicates=REPLICATES,
        charts_of=charts_of,
        line_styles=line_styles,
        pair_to_show=pair_to_show,
        differing_pictures=differing_pictures,
    )
