"""The command line that finds operating points: thresholds, calibrator, page."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfocalx.analysis.calibration import TARGETS
from mmfocalx.analysis.operating_charts import charts_of
from mmfocalx.analysis.operating_point import WORTH, Settings, Study, study
from mmfocalx.files import write_json, write_text
from mmfocalx.reporting.gaps import Gaps
from mmfocalx.reporting.page import rendered
from mmfocalx.reporting.wording import number, score, table

DESCRIPTION = """From which score on to keep the detections of a file, and what a score is worth.

Writes thresholds.json, calibrator.json and report.html to --out; with --thresholds, which chooses
nothing to be used, at_given_thresholds.json and report.html. The exit code is 1 if a part of the
report is missing.
"""
THRESHOLDS, CALIBRATOR = 'thresholds.json', 'calibrator.json'
JUDGED = 'at_given_thresholds.json'
COMPARISON = 'For comparison only, not to be used: thresholds chosen on these images'
GIVEN_HEAD = ('class', 'F-beta threshold', 'precision', 'recall', 'LRP threshold', 'precision',
              'recall')  # fmt: skip


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('detections', type=Path, metavar='DETECTIONS.json',
                        help='list of detections in COCO format; CocoMetric writes it with '
                        'outfile_prefix')  # fmt: skip
    parser.add_argument('annotations', type=Path, metavar='ANNOTATIONS.json',
                        help='COCO annotations of the same images')  # fmt: skip
    parser.add_argument('--out', type=Path, required=True, help='directory of what is written')
    parser.add_argument('--iou', type=float, default=Settings.iou_threshold, dest='iou_threshold',
                        help='IoU that a match needs (default: %(default)s)')  # fmt: skip
    parser.add_argument('--beta', type=float, default=Settings.beta,
                        help='how many times as much as precision recall counts in F-beta '
                        '(default: %(default)s)')  # fmt: skip
    parser.add_argument('--target', choices=[*TARGETS], default=Settings.target,
                        help='what a calibrated score promises: the precision at --iou, or the IoU '
                        'as in the paper (default: %(default)s)')  # fmt: skip
    parser.add_argument('--max-detections', type=int, default=Settings.max_detections,
                        help='detections that count for each image and class '
                        '(default: %(default)s)')  # fmt: skip
    parser.add_argument('--seed', type=int, default=Settings.seed,
                        help='chooses the half of the images to fit the calibration on '
                        '(default: %(default)s)')  # fmt: skip
    parser.add_argument('--thresholds', type=Path, metavar='FILE',
                        help='a thresholds.json that was found on other images, such as the val '
                        'split: say what it gives on these')  # fmt: skip
    parser.add_argument('--calibrated', type=Path, metavar='FILE',
                        help='write the detections with calibrated scores, too')  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Find operating points as the command line says.

    Returns:
        0 if every part of the report is there, 1 if not.

    Raises:
        SystemExit: For what the user has to put right, with the reason.
    """
    args = parse_args(arguments)
    if args.thresholds:
        _check_nothing_to_be_used(args)
    elif (args.out / JUDGED).exists():
        raise SystemExit(
            f'--out {args.out} has an {JUDGED}: thresholds are not chosen where others were '
            'judged; give another folder'
        )
    words = [*(arguments if arguments is not None else sys.argv[1:])]
    command = shlex.join(['python', 'tools/analysis/operating_point.py', *map(str, words)])
    try:
        settings = Settings(
            args.iou_threshold, args.beta, args.target, args.seed, args.max_detections
        )
        found = study(args.detections, args.annotations, settings, args.thresholds)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(as_text(found))
    written = write(found, args.out, command)
    if args.calibrated:
        if found.calibration is None:
            raise SystemExit(f'--calibrated {args.calibrated} is not written: {found.notes[-1]}')
        write_json(args.calibrated, found.calibrated_detections())
        print(f'Calibrated detections: {args.calibrated}')
    return 0 if written else 1


def _check_nothing_to_be_used(args: argparse.Namespace) -> None:
    """Refuse what would leave thresholds or scores beside a report that only judges."""
    if args.calibrated:
        raise SystemExit(
            f'--calibrated {args.calibrated} with --thresholds would fit scores on the images that '
            'are only judged: leave it out'
        )
    for name in (THRESHOLDS, CALIBRATOR):
        if (args.out / name).exists():
            raise SystemExit(
                f'--out {args.out} has a {name} already, while --thresholds only judges: give '
                'another folder'
            )


def write(found: Study, out: Path, command: str) -> bool:
    """Write page and numbers, and what is to be used; whether every part of the page is there."""
    write_json(out / (JUDGED if found.thresholds else THRESHOLDS), found.as_json())
    if found.calibration and not found.thresholds:
        found.calibration.calibrator.save(out / CALIBRATOR)
    gaps = Gaps()
    page = html_page(found, command, gaps)
    write_text(out / 'report.html', page)
    what = 'Precision, recall' if found.thresholds else 'Thresholds, calibrator'
    print(f'{what} and charts: {out / "report.html"}')
    return not gaps


def html_page(found: Study, command: str, gaps: Gaps) -> str:
    """The report as a page that needs nothing else."""
    calibration = found.calibration
    fitted_on: dict[str, Any] = {}
    if calibration:
        fitted_on = {
            name: len(found.matches[name].at(0)[0]) - len(raw.at(0)[0])
            for name, raw in calibration.raw.items()
        }
    return rendered(
        'mmfocalx.analysis',
        'operating_point.html.j2',
        gaps,
        dict(number=number, score=score),
        study=found,
        calibration=calibration,
        images=len(next(iter(found.matches.values())).truths),
        fitted_on=fitted_on,
        calibrator_example=next(iter(calibration.calibrator.classes)) if calibration else '',
        worth=WORTH,
        given_head=GIVEN_HEAD,
        comparison=COMPARISON,
        charts_of=charts_of,
        command=command,
    )


def given_rows(found: Study) -> list[list[str]]:
    """What the given thresholds give: a line for each class, and for all."""
    lines = []
    for name, row in found.given.items():
        cells = []
        for kept in row.values():
            point = (kept.threshold, kept.precision, kept.recall) if kept else (math.nan,) * 3
            cells += _cells(*point)
        lines.append([name, *cells])
    return lines


def _cells(threshold: float, *shares: float) -> list[str]:
    return [score(threshold), *(number(100 * share) for share in shares)]


def as_text(found: Study) -> str:
    """Thresholds, calibration errors and notes for a terminal."""
    rows = []
    for one in [*found.classes, found.overall]:
        cells = [one.reason] + [''] * 7
        if one.f_beta and one.lrp:
            cells = []
            for threshold, value, *shares in (one.f_beta, one.lrp):
                first, *rest = _cells(threshold, *shares)
                cells += [first, number(value, 3), *rest]
        rows.append([one.name, str(one.objects), *cells])
    head = ['class', 'objects', 'F-beta threshold', 'F-beta', 'precision', 'recall',
            'LRP threshold', 'LRP error', 'precision', 'recall']  # fmt: skip
    chosen = table(head, rows)
    parts = ['Precision and recall are in percent.', chosen]
    if found.given:
        given = table(GIVEN_HEAD, given_rows(found))
        parts[1:] = [f'At the given thresholds, {found.thresholds}:', given]
    if found.calibration:
        calibration = found.calibration
        before, after = calibration.before, calibration.after
        parts += [
            f'Calibration errors in percent; curves are fitted on {calibration.fitted_on} images '
            f'and judged on the other {calibration.judged_on}:',
            table(
                ['error', 'before', 'after'],
                ([key, number(100 * before[key]), number(100 * after[key])] for key in WORTH),
            ),
        ]
    if found.given:
        parts += [f'{COMPARISON}:', chosen]
    parts += [f'Note: {note}' for note in found.notes]
    return '\n\n'.join(parts)
