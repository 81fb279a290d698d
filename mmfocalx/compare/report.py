"""Judges runs as they end, and writes the reports: no fault in one takes another along."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import escape

from mmfocalx.compare.building import build
from mmfocalx.compare.comparison import Comparison, left_out
from mmfocalx.compare.evaluation import Evaluation, judge
from mmfocalx.compare.html import html_report
from mmfocalx.compare.markdown import markdown_report
from mmfocalx.compare.results import write_results
from mmfocalx.compare.runs import Outcome, Run
from mmfocalx.files import write_text
from mmfocalx.reporting.gaps import Gaps


class Report:
    """The reports of a comparison.

    Args:
        plan: All runs that were asked for.
        out: Folder for the reports.
        command: The command line that makes them.
    """

    def __init__(self, plan: Sequence[Run], out: Path, command: str) -> None:
        self.plan = plan
        self.command = command
        self.outcomes: dict[Run, Outcome] = {}
        self.evaluations: dict[Run, Evaluation] = {}
        self.unjudged: dict[Run, str] = {}
        suffix = '' if plan[0].split == 'val' else f'-{plan[0].split}'
        self.page = out / f'report{suffix}.html'
        self.text = out / f'report{suffix}.md'
        self.numbers = out / f'results{suffix}.json'

    def add(self, outcome: Outcome) -> None:
        """Take in, and judge, what became of a run."""
        self.outcomes[outcome.run] = outcome
        if outcome.result is not None:
            try:
                self.evaluations[outcome.run] = judge(outcome)
            except Exception as error:  # the training is not lost: a later call judges it again
                self.unjudged[outcome.run] = f'not judged: {type(error).__name__}: {error}'

    def comparison(self) -> Comparison:
        """All that is known so far."""
        outcomes = [self.outcomes[run] for run in self.plan if run in self.outcomes]
        bare = Comparison(
            split=self.plan[0].split,
            seeds=sorted({run.seed for run in self.plan}),
            planned=len(self.plan),
            left_out=left_out(outcomes, self.unjudged),
            results=[outcome.result for outcome in outcomes if outcome.result],
            command=self.command,
        )
        found = bare
        with bare.gaps.part('comparison'):
            found = build(bare, self.plan, self.evaluations)
        return found

    def write_tables(self) -> None:
        """Write the text and the numbers while the comparison goes on."""
        comparison = self.comparison()
        _write(self.numbers, lambda: write_results(comparison, self.numbers))
        _write(self.text, lambda: write_text(self.text, markdown_report(comparison)))

    def write(self) -> bool:
        """Write all three and print the text; whether every run and every part is there."""
        comparison = self.comparison()
        written = write_reports(comparison, self.page, self.text, self.numbers)
        return written and not comparison.left_out


def write_reports(comparison: Comparison, page: Path, text: Path, numbers: Path) -> bool:
    """Write all three and print the text; whether every part of them is there."""
    gaps = comparison.gaps = Gaps(comparison.gaps)
    html = ''
    with gaps.part('report.html'):
        html = html_report(comparison, gaps)
    markdown = ''
    with gaps.part('report.md'):
        markdown = markdown_report(comparison, gaps)
    written = [
        _write(page, lambda: write_text(page, html or _as_page(markdown))),
        _write(text, lambda: write_text(text, markdown)),
        _write(numbers, lambda: write_results(comparison, numbers)),
    ]
    print(markdown)
    if written[0]:
        print(f'Charts and pictures: {page}')
    return all(written) and not gaps


def _write(path: Path, write: Callable[[], None]) -> bool:
    try:
        write()
    except Exception as error:
        print(f'{path} could not be written: {type(error).__name__}: {error}', file=sys.stderr)
        return False
    return True


def _as_page(text: str) -> str:
    return f'<!doctype html>\n<meta charset="utf-8">\n<pre>{escape(text)}</pre>\n'
