"""Make the digit scenes, train a RetinaNet on a swapped loss, evaluate it and draw the result."""

from __future__ import annotations

import argparse
import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/retinanet/retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py'
DATA = ROOT / 'data/digit_scenes'
FOUND, TRUTH = '#00d26a', '#ffffff'
SHOWN_SCORE = 0.4


def run(*arguments: object) -> None:
    """Run Python with the arguments; end with its exit code if it fails, with 130 on Ctrl-C."""
    command = [sys.executable, *map(str, arguments)]
    print('+', 'python', *command[1:], flush=True)
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=leave_ctrl_c_to_the_parent)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        print('\nInterrupted; the same command goes on from here.', file=sys.stderr)
        code = 130
    if code:
        sys.exit(code)


def leave_ctrl_c_to_the_parent() -> None:
    """In a child: ignore SIGINT, which would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def draw_curve(work_dir: Path) -> Path:
    """The training losses and the mAP of val against the epoch."""
    from mmfocalx.compare.logs import training_curves
    from mmfocalx.plotting import COLOURS, MARKERS

    losses, maps = training_curves(work_dir)
    figure, axes = plt.subplots(figsize=(6, 3.4), layout='constrained')
    axes.plot(
        list(losses), list(losses.values()), color=COLOURS[0], marker=MARKERS[0], label='train loss'
    )
    axes.set(xlabel='epoch', ylabel='train loss', ylim=(0, None))
    scores = axes.twinx()
    scores.plot(
        list(maps), list(maps.values()), color=COLOURS[1], marker=MARKERS[1], label='val mAP'
    )
    scores.set(ylabel='val mAP (%)', ylim=(0, 100))
    figure.legend(loc='outside upper center', ncols=2, frameon=False)
    return save(figure, work_dir / 'curve.png')


def draw_detections(predictions: Path, target: Path, columns: int = 4, rows: int = 2) -> Path:
    """The first test images with the boxes found (coloured) and annotated (white)."""
    from mmcv.ops import nms

    annotations = json.loads((DATA / 'annotations/test.json').read_text())
    names = [category['name'] for category in annotations['categories']]
    results = {result['img_id']: result for result in pickle.loads(predictions.read_bytes())}
    figure, grid = plt.subplots(
        rows, columns, figsize=(3 * columns, 3 * rows), layout='constrained'
    )
    for axes, image in zip(grid.flat, annotations['images'], strict=False):
        axes.imshow(Image.open(DATA / 'test' / image['file_name']))
        axes.axis('off')
        for truth in annotations['annotations']:
            if truth['image_id'] == image['id']:
                x, y, w, h = truth['bbox']
                axes.add_patch(Rectangle((x, y), w, h, fill=False, color=TRUTH, lw=2.5))
        found = results[image['id']]['pred_instances']
        _, best = nms(found['bboxes'], found['scores'], iou_threshold=0.6)  # over all classes
        columns_of = (found[key][best].tolist() for key in ('bboxes', 'scores', 'labels'))
        for box, score, label in zip(*columns_of, strict=True):
            if score >= SHOWN_SCORE:
                x0, y0, x1, y1 = box
                axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=FOUND))
                axes.text(
                    x0, max(y0 - 2, 8), f'{names[label]} {score:.2f}', color='black', fontsize=7,
                    bbox=dict(facecolor=FOUND, edgecolor='none', pad=0.8),
                )  # fmt: skip
    figure.suptitle(f'white: annotated, green: found with a score of at least {SHOWN_SCORE}')
    return save(figure, target)


def save(figure: plt.Figure, target: Path) -> Path:
    """Write the figure and return where."""
    figure.savefig(target, dpi=110)
    plt.close(figure)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/demo')
    work_dir = parser.parse_args().work_dir.resolve()
    plt.switch_backend('agg')

    run('-m', 'mmfocalx.datasets.digit_scenes', '--out', DATA)
    run('tools/train.py', CONFIG, '--work-dir', work_dir, '--resume')
    checkpoint = (work_dir / 'last_checkpoint').read_text().strip()
    predictions = work_dir / 'predictions.pkl'
    run('tools/test.py', CONFIG, checkpoint, '--work-dir', work_dir / 'test', '--out', predictions)
    print(f'Training curve: {draw_curve(work_dir)}')
    print(f'Detections:     {draw_detections(predictions, work_dir / "detections.jpg")}')
    print('For images of your own: docs/own_data.md')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
