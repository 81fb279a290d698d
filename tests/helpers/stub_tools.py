"""Stand-ins for `tools/train.py` and `tools/test.py` that need milliseconds.

A stub training goes through the epochs of its config. A checkpoint holds a number that depends on
the seed, the config and every epoch before, so only a training that was continued properly ends
with the number of one that was never interrupted.
"""

from __future__ import annotations

from pathlib import Path

TRAIN = """
import os, pathlib, runpy, sys, time
config = runpy.run_path(sys.argv[1])
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed, step, mood = config['randomness']['seed'], config['step'], config['mood']
with (work_dir / 'starts.txt').open('a') as file:
    print(os.getpid(), os.environ.get('OMP_NUM_THREADS'), file=file)
if mood == 'broken':
    print('Traceback (most recent call last):\\n  File "x"')
    print('mmengine.FancyError: no such loss')
    print('and a warning after it')
    sys.exit(1)
if mood == 'killed':
    os.kill(os.getpid(), 9)
done = sorted(work_dir.glob('epoch_*.pth'), key=lambda path: int(path.stem[6:]))
epoch, value = (int(done[-1].stem[6:]), float(done[-1].read_text())) if done else (0, seed + 1.0)
for epoch in range(epoch + 1, 6):
    time.sleep(0.15)
    value = (value * 1.37 + step * epoch) % 1
    with (work_dir / 'history.txt').open('a') as file:
        print(os.getpid(), epoch, file=file)
    temporary = work_dir / 'unfinished'
    temporary.write_text(repr(value))
    temporary.replace(work_dir / f'epoch_{epoch}.pth')
    print(f'Epoch(train) [{epoch}][10/10]  lr: 1')
(work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_5.pth'))
"""

TEST = """
import json, pathlib, runpy, sys
config = runpy.run_path(sys.argv[1])
value = float(pathlib.Path(sys.argv[2]).read_text())
out = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
metric = config['test_evaluator']
metric = metric if isinstance(metric, dict) else metric[0]
truth = json.loads(pathlib.Path(metric['ann_file']).read_text())
found = []
for k, one in enumerate(truth['annotations']):
    x, y, w, h = one['bbox']
    shift = (value * (k + 1) * 7.3) % 1 * w / 2
    found.append(dict(image_id=one['image_id'], category_id=one['category_id'],
                      bbox=[x + shift, y, w, h], score=1 - shift / w))
pathlib.Path(metric['outfile_prefix'] + '.bbox.json').write_text(json.dumps(found))
(out / 'stamp').mkdir()
metrics = {'coco/bbox_mAP': value, 'coco/bbox_mAP_50': value, 'coco/bbox_mAP_75': value,
           'time': 1.0}
(out / 'stamp' / 'stamp.json').write_text(json.dumps(metrics))
"""

CONFIG = """
step = {step}
mood = '{mood}'
model = dict(type='RetinaNet')
train_cfg = dict(max_epochs=5)
dataset = dict(type='CocoDataset', data_root='{data}', ann_file='annotations.json',
    data_prefix=dict(img='images/'))
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
val_evaluator = dict(type='CocoMetric', ann_file='{data}/annotations.json')
test_evaluator = [dict(type='CocoMetric', ann_file='{data}/annotations.json')]
"""


def write_tools(directory: Path) -> Path:
    """Stub `train.py` and `test.py`."""
    directory.mkdir()
    (directory / 'train.py').write_text(TRAIN)
    (directory / 'test.py').write_text(TEST)
    return directory


def write_config(path: Path, data: Path, step: float = 0.1, mood: str = 'fine') -> Path:
    """A config that the stubs understand; `mood` may be 'broken' or 'killed'."""
    path.write_text(CONFIG.format(data=data, step=step, mood=mood).lstrip())
    return path
