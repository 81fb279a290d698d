"""``report.html``: everything about a comparison in one file that needs nothing else."""

from __future__ import annotations

from mmfocalx.compare.charts import charts_of
from mmfocalx.compare.comparison import AP_KINDS, NOTHING, QUALITY, Comparison
from mmfocalx.compare.detections import differing_pictures, pair_to_show
from mmfocalx.compare.evaluation import REPLICATES
from mmfocalx.compare.intervals import LEGEND
from mmfocalx.compare.markdown import SHOWN_QUALITY, digits_of, spread
from mmfocalx.plotting import line_styles
from mmfocalx.reporting.gaps import Gaps
from mmfocalx.reporting.page import rendered
from mmfocalx.reporting.wording import duration, number, signed


def html_report(comparison: Comparison, gaps: Gaps | None = None) -> str:
    """The page.

    Args:
        comparison: What it says.
        gaps: Where to add the parts that cannot be written.
    """
    return rendered(
        'mmfocalx.compare',
        'report.html.j2',
        Gaps(comparison.gaps) if gaps is None else gaps,
        dict(number=number, spread=spread, duration=duration, signed=signed),
        comparison=comparison,
        quality=QUALITY,
        quality_tables=(list(QUALITY)[:6], list(QUALITY)[6:]),
        shown_quality=SHOWN_QUALITY,
        digits_of=digits_of,
        legend=LEGEND,
        nothing=NOTHING,
        ap_kinds=AP_KINDS,
        replicates=REPLICATES,
        charts_of=charts_of,
        line_styles=line_styles,
        pair_to_show=pair_to_show,
        differing_pictures=differing_pictures,
    )
