"""Stand-ins for `tools/train.py` and `tools/test.py` that need milliseconds.

A stub training goes through the epochs of its config. A checkpoint holds a number that depends on
the seed, the config, the checkpoint that it was started from and every epoch before, so only a
training that was continued properly ends with the number of one that was never interrupted. As in
mmdet, `--resume` makes the config's `load_from` void. A config that says `watched` has a growing
mAP while training, which ends with that value.
"""

from __future__ import annotations

from pathlib import Path

TRAIN = """
import json, os, pathlib, runpy, sys, time
config = runpy.run_path(sys.argv[1])
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
seed, step, mood = config['randomness']['seed'], config['step'], config['mood']
with (work_dir / 'starts.txt').open('a') as file:
    print(os.getpid(), os.environ.get('OMP_NUM_THREADS'), file=file)
if mood == 'broken' or mood == f'broken at seed {seed}':
    print('Traceback (most recent call last):\\n  File "x"')
    print('mmengine.FancyError: no such loss')
    print('and a warning after it')
    sys.exit(1)
if mood == 'killed':
    os.kill(os.getpid(), 9)
folder = config.get('default_hooks', {}).get('checkpoint', {}).get('out_dir')
folder = pathlib.Path(folder) / work_dir.name if folder else work_dir
folder.mkdir(parents=True, exist_ok=True)
done = sorted(folder.glob('epoch_?.pth'), key=lambda path: int(path.stem[6:]))
epoch, value = 0, seed + 1.0
if done and ('--resume' in sys.argv or config.get('resume')):
    epoch, value = int(done[-1].stem[6:]), float(done[-1].read_text())
elif config.get('load_from') and '--resume' not in sys.argv:
    value += float(pathlib.Path(config['load_from']).read_text())
scalars = work_dir / f'{time.time_ns()}' / 'vis_data'
scalars.mkdir(parents=True)
for epoch in range(epoch + 1, 1 + config.get('epochs', 5)):
    time.sleep(config['pause'])
    value = (value * 1.37 + step * epoch) % 1
    with (work_dir / 'history.txt').open('a') as file:
        print(os.getpid(), epoch, file=file)
    temporary = work_dir / 'unfinished'
    temporary.write_text(repr(value))
    temporary.replace(folder / f'epoch_{epoch}.pth')
    (work_dir / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))
    loss = {'diverges': epoch > 2, 'hiccup': epoch == 2}.get(mood, False)
    with (scalars / 'scalars.json').open('a') as file:
        row = {'loss': float('nan') if loss else 1 / epoch, 'epoch': epoch, 'step': 10 * epoch}
        print(json.dumps(row), file=file)
        if 'watched' in config:
            row = {'coco/bbox_mAP': config['watched'] * epoch / 5, 'step': epoch}
            print(json.dumps(row), file=file)
    print(f'Epoch(train) [{epoch}][10/10]  lr: 1')
(folder / 'epoch_5-fe67127b.pth').write_text('published')
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
for k, annotation in enumerate(truth['annotations']):
    if config['mood'] == f"misses class {annotation['category_id']}":
        continue
    if config['mood'] == f"misses class {annotation['category_id']} at seed 1":
        if config['randomness']['seed'] == 1:
            continue
    try:
        x, y, w, h = annotation['bbox']
    except KeyError:
        continue
    shift = (value * (k + 1) * 7.3) % 1 * w / 2
    if not shift < 1e9 or w < 0:
        continue
    found.append(dict(image_id=annotation['image_id'], category_id=annotation['category_id'],
                      bbox=[x + shift, y, w, h], score=1 - shift / w))
known = {category['id'] for category in truth['categories']}
images = {image['id'] for image in truth['images']}
found = [row for row in found if row['category_id'] in known and row['image_id'] in images]
pathlib.Path(metric['outfile_prefix'] + '.bbox.json').write_text(json.dumps(found))
(out / 'stamp').mkdir()
prefix = metric.get('prefix', 'coco')
metrics = {f'{prefix}/bbox_mAP': value, f'{prefix}/bbox_mAP_50': value,
           f'{prefix}/bbox_mAP_75': value, 'time': 1.0}
(out / 'stamp' / 'stamp.json').write_text(json.dumps(metrics))
"""

CONFIG = """
step = {step}
mood = '{mood}'
pause = {pause}
model = dict(type='{detector}')
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


def write_config(
    path: Path,
    data: Path,
    step: float = 0.1,
    mood: str = 'fine',
    more: str = '',
    pause: float = 0.1,
    detector: str = 'RetinaNet',
) -> Path:
    """A config that the stubs understand.

    Args:
        path: Where to write it.
        data: Folder of the data set.
        step: Changes the checkpoints.
        mood: What goes wrong: see the stubs.
        more: More lines of the config.
        pause: Seconds of an epoch.
        detector: Type of the model.
    """
    text = CONFIG.format(data=data, step=step, mood=mood, pause=pause, detector=detector)
    path.write_text(f'{text.lstrip()}{more}\n')
    return path
