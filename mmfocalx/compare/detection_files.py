"""Comparing files of detections that are there already: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmfocalx.compare.building import completed, distinct_parts, judged, measure_differences
from mmfocalx.compare.comparison import Comparison, Group
from mmfocalx.compare.evaluation import evaluated
from mmfocalx.compare.logs import versions
from mmfocalx.compare.notes import never_found_by
from mmfocalx.compare.runs import Run
from mmfocalx.evaluation.annotations import contents, ground_truth
from mmfocalx.evaluation.detection_files import outside_their_images, read_detections
from mmfocalx.files import file_hash
from mmfocalx.reporting.gaps import Gaps


def compare_files(
    files: Sequence[Path], annotations: Path, images: Path | None, command: str
) -> Comparison:
    """Everything that a report says about files of detections.

    Args:
        files: Lists of detections in COCO format; the first is the baseline.
        annotations: COCO annotations of their images.
        images: Folder of the images; without it, the report has no pictures.
        command: The command line that makes the report.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is not what it should be, or does not belong to the annotations.
    """
    truth = ground_truth(str(annotations))
    read = {file: read_detections(file, truth) for file in files}
    gaps = Gaps()
    notes = [f'{annotations}: {oddity}.' for oddity in contents(annotations).oddities]
    results, evaluations = [], []
    for (file, found), name in zip(read.items(), names_of(files), strict=True):
        result = {
            'name': name,
            'detections': str(file),
            'content': file_hash(file),
            'number': len(found),
            'num_images': len({one['image_id'] for one in found}),
            'annotations': str(annotations),
            'images': str(images or ''),
        }
        run = Run(name, 0, file, file.parent)
        rows = truth.rows(found)
        evaluation = evaluated(run, result, truth, rows)
        evaluations.append(evaluation)
        results.append(evaluation.numbers())
        if outside := outside_their_images(rows, truth):
            notes.append(
                f'{outside} of {len(found)} detections of {file} lie outside their image: they may '
                'be of another data set, or not in pixels of the original image.'
            )
    labels = distinct_parts([evaluation.run.name for evaluation in evaluations])
    variants = [
        judged(one.run.name, label, [one], gaps)
        for one, label in zip(evaluations, labels, strict=True)
    ]
    for variant in variants:
        if variant.never_found:
            notes.append(never_found_by(f'{variant.name} did not find', variant.never_found))
    notes += [
        f'{result["detections"]} has the same content as {results[0]["detections"]}.'
        for result in results[1:]
        if result['content'] == results[0]['content']
    ]
    group = Group('Detections', str(annotations), (), variants, trained=False)
    completed(group, lambda: (contents(annotations).counts, 'the annotations'), gaps)
    measure_differences(group, gaps)
    return Comparison(
        split='', seeds=[], planned=len(files), groups=[group], results=results, notes=notes,
        gaps=gaps, versions=versions(), command=command,
    )  # fmt: skip


def names_of(files: Sequence[Path]) -> list[str]:
    """File names without their endings; the given paths where these are not distinct."""
    names = [file.name.removesuffix('.json').removesuffix('.bbox') for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
