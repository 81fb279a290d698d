"""The command line that describes a data set: statistics, suggestions, page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmfocalx.analysis.dataset import BALANCES, DatasetStudy, Wanted, study_dataset
from mmfocalx.analysis.dataset_charts import charts_of
from mmfocalx.analysis.object_sizes import size_caption, size_table
from mmfocalx.analysis.snippet import snippet
from mmfocalx.analysis.suggestions import RULES
from mmfocalx.files import write_json, write_text
from mmfocalx.reporting.gaps import Gaps
from mmfocalx.reporting.page import rendered
from mmfocalx.reporting.wording import number, table

DESCRIPTION = """What a data set holds, and the settings of a focal loss that follow.

Writes dataset_stats.json, report.html and suggested.py, a config that inherits from --config, to
--out. The exit code is 1 if a part of the report is missing.
"""


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, metavar='ANNOTATIONS.json',
                        help='COCO annotations')  # fmt: skip
    parser.add_argument('--config', type=Path,
                        help='config of a dense detector: foreground and background are counted '
                        'under its own assigner and levels')  # fmt: skip
    parser.add_argument('--out', type=Path, required=True, help='directory of what is written')
    parser.add_argument(
        '--balance',
        choices=BALANCES,
        default=Wanted.balance,
        help='weights of classes in the suggested alpha: by effective number of '
        'samples, by inverse frequency, or none (default: %(default)s)',
    )
    parser.add_argument(
        '--effective-beta',
        type=float,
        default=Wanted.effective_beta,
        help='of the effective number of samples (default: %(default)s)',
    )
    parser.add_argument('--images', type=int, default=Wanted.most_images, metavar='N',
                        help='count foreground and background on this many images at most, drawn '
                        'at random (default: %(default)s)')  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe a data set as the command line says.

    Returns:
        0 if every part of the report is there, 1 if not.

    Raises:
        SystemExit: For what the user has to put right, with the reason.
    """
    args = parse_args(arguments)
    words = [*(arguments if arguments is not None else sys.argv[1:])]
    command = shlex.join(['python', 'tools/analysis/dataset_stats.py', *map(str, words)])
    try:
        wanted = Wanted(args.balance, args.effective_beta, args.images)
        study = study_dataset(args.annotations, args.config, wanted)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    config = snippet(study, args.out)
    print(as_text(study))
    print(f'\n{config}')
    write_json(args.out / 'dataset_stats.json', study.as_json())
    write_text(args.out / 'suggested.py', config)
    gaps = Gaps()
    write_text(args.out / 'report.html', html_page(study, config, command, gaps))
    what = 'The config is' if args.config else 'To be pasted into a config (--config makes one):'
    print(f'{what} {args.out / "suggested.py"}, charts are in {args.out / "report.html"}')
    return 1 if gaps else 0


def html_page(study: DatasetStudy, config: str, command: str, gaps: Gaps) -> str:
    """The report as a page that needs nothing else."""
    return rendered(
        'mmfocalx.analysis',
        'dataset.html.j2',
        gaps,
        dict(number=number),
        study=study,
        rules=RULES,
        snippet=config,
        size_table=size_table(study.class_sizes, study.anchors),
        size_caption=size_caption(study.scale, study.anchors),
        charts_of=charts_of,
        command=command,
    )


def as_text(study: DatasetStudy) -> str:
    """Classes, foreground and suggestions for a terminal."""
    parts = [
        table(
            ['class', 'objects', 'images', 'positives', 'effective weight', 'alpha',
             'inverse weight', 'alpha'],
            (
                [one.name, str(one.objects), str(one.images),
                 '–' if one.positives is None else str(one.positives),
                 number(one.effective, 3), number(one.effective_alpha, 4),
                 number(one.inverse, 3), number(one.inverse_alpha, 4)]
                for one in study.classes
            ),
        ),
        f'The most frequent class has {number(study.imbalance)} times the objects of the rarest.',
        size_caption(study.scale, study.anchors),
        table(*size_table(study.class_sizes, study.anchors)),
    ]  # fmt: skip
    if study.targets:
        parts.append(
            table(
                ['stride', 'positives', 'negatives', 'ignored'],
                ([str(value) for value in level] for level in study.targets.levels),
            )
        )
        parts.append(
            f'{100 * study.targets.foreground:.3f} % of what {study.targets.head} classifies in '
            f'{study.targets.images} images is foreground.'
        )
    rule = RULES['inverse foreground' if study.gamma == 0 and study.targets else 'RetinaNet']
    parts.append(f'alpha {study.alpha:.4f} at gamma {study.gamma:g}: {rule}.')
    if study.balanced_alpha is not None and study.gamma:
        parts.append(f'alpha {study.balanced_alpha:.4f} at gamma 0: {RULES["inverse foreground"]}.')
    parts.append(f'Effective: {RULES["effective"]}. Inverse: {RULES["inverse"]}.')
    parts.append(f'{RULES["odds"]}.')
    parts.append(f'Bias prior {study.prior:.4f}: {RULES["prior"]}.')
    parts.append(f'Learning rate {study.rate.value:.3g}: {study.rate.reason}.')
    parts += [f'Note: {note}' for note in study.notes]
    return '\n\n'.join(parts)
