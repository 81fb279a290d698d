"""What can be known before training is said before training, and stops its own config only."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from helpers import stub_tools
from helpers.comparing import compare
from mmfocalx.compare.plan import parse_args


def a_config(tmp_path: Path, data: Path, name: str, more: str = '', **settings) -> Path:
    return stub_tools.write_config(tmp_path / f'{name}.py', data, pause=0.01, more=more, **settings)


REFUSED = {
    'no metric': ('val_evaluator = dict(type="VOCMetric")', "val_evaluator .* has no 'CocoMetric'"),
    'no evaluator': ('val_evaluator = None', "has no 'CocoMetric'"),
    'masks only': ('val_evaluator["metric"] = "segm"', "whose metric is 'bbox'"),
    'no such annotations': ('val_evaluator["ann_file"] = "x/y.json"', 'no file .*x/y.json'),
    'no such training annotations': (
        'train_dataloader = dict(dataset=dict(dataset, ann_file="lost.json"))',
        'training annotations: no file .*/lost.json',
    ),
    'relative root': (
        'train_dataloader = dict(dataset=dict(dataset, data_root="data/coco"))',
        'data/coco/annotations.json .a relative path in a config starts from',
    ),
    'classes that the annotations lack': (
        'val_dataloader = dict(dataset=dict(dataset, metainfo=dict(classes=("disc", "cube"))))',
        r"has no \['cube'\], which are among the classes",
    ),
    'classes in another order': (
        'val_dataloader = dict(dataset=dict(dataset, metainfo=dict(classes=("bar", "disc"))))',
        r"in another order: write metainfo=dict\(classes=\('disc', 'bar'\)\)",
    ),
    'no checkpoint': (
        'default_hooks = dict(checkpoint=None)',
        'default_hooks.checkpoint .* is off',
    ),
    'no such checkpoint': ('load_from = "lost.pth"', 'no file .*/lost.pth'),
    'no length': ('train_cfg = dict(type="EpochBasedTrainLoop")', 'max_iters'),
    'syntax': ('model = dict(', 'SyntaxError'),
    'no base': ('_base_ = "lost.py"', 'lost.py'),
    'no model': ('del model', 'model'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_a_config_that_cannot_work_is_refused_by_name_and_alone(
    tmp_path: Path, data: Path, tools: Path, what: str
) -> None:
    more, reason = REFUSED[what]
    bad, good = a_config(tmp_path, data, 'bad', more), a_config(tmp_path, data, 'good')
    done = compare(tools, tmp_path / 'out', good, bad, '--seeds', 0, 1)
    assert done.code == 1
    assert done.seeds()['good'] == [0, 1]
    assert set(done.failed()) == {('bad', 0), ('bad', 1)}
    for message in done.failed().values():
        assert message.startswith('not started: ')
        assert re.search(reason, message), message
        assert message in done.page
    assert not (tmp_path / 'out/runs/bad').exists()


def test_a_baseline_that_cannot_be_read_is_not_replaced(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    base = a_config(tmp_path, data, 'base', 'model = dict(')
    others = [a_config(tmp_path, data, name, step=k) for k, name in enumerate('ab')]
    done = compare(tools, tmp_path / 'out', base, *others, '--seeds', 0)
    (group,) = done.results['comparisons']
    assert group['baseline'] is None
    assert (
        'base is in no group: its config does not say what it is tested on. It was to be'
        in done.page
    )
    assert 'No baseline: base, the first config given, has no finished run' in done.page


def test_another_prefix_of_the_metric_is_no_obstacle(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    config = a_config(tmp_path, data, 'a', 'val_evaluator["prefix"] = "mine"')
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert done.code == 0
    assert set(done.results['runs'][0]['metrics']) == {
        f'coco/bbox_mAP{suffix}' for suffix in ('', '_50', '_75')
    }


def test_a_class_that_training_lacks_is_counted_as_0(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    content = json.loads((data / 'annotations.json').read_text())
    content['categories'] = content['categories'][:1]
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] == 1]
    (data / 'train.json').write_text(json.dumps(content))
    more = 'train_dataloader = dict(dataset=dict(dataset, ann_file="train.json"))'
    done = compare(tools, tmp_path / 'out', a_config(tmp_path, data, 'a', more), '--seeds', 0)
    assert done.code == 0
    assert 'disc8' in done.page.replace(' ', '')
    assert 'bar0' in done.page.replace(' ', '')
    assert done.results['missing'] == []


@pytest.mark.parametrize('content', ['<annotation/>', '[]', '{"images": 3}', '000005\n000007\n'])
def test_training_annotations_that_are_no_coco_json(
    tmp_path: Path, data: Path, tools: Path, content: str
) -> None:
    (data / 'train.txt').write_text(content)
    more = 'train_dataloader = dict(dataset=dict(dataset, ann_file="train.txt"))'
    done = compare(tools, tmp_path / 'out', a_config(tmp_path, data, 'a', more), '--seeds', 0)
    assert done.code == 0
    assert 'objects in the tested split' in done.page
    assert f'Objects in {data / "train.txt"} were not counted' in done.page


def test_configs_with_different_classes_are_not_compared(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    both = a_config(tmp_path, data, 'both')
    more = 'val_dataloader = dict(dataset=dict(dataset, metainfo=dict(classes=("disc",))))'
    alone = a_config(tmp_path, data, 'alone', more)
    done = compare(tools, tmp_path / 'out', both, alone, '--seeds', 0)
    assert done.code == 0
    assert [group['differences'] for group in done.results['comparisons']] == [{}, {}]
    assert 'alone and both are not compared: they have different classes.' in done.page


def test_an_annotation_file_spelled_in_two_ways_is_one(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'link').symlink_to(data)
    spellings = [
        str(data / 'annotations.json'),
        f'{data}/images/../annotations.json',
        f'{data}//annotations.json',
        str(tmp_path / 'link/annotations.json'),
        os.path.relpath(data / 'annotations.json', tmp_path),
    ]
    monkeypatch.chdir(tmp_path)
    configs = [
        a_config(tmp_path, data, f'c{k}', f'val_evaluator["ann_file"] = {spelling!r}', step=k)
        for k, spelling in enumerate(spellings)
    ]
    done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0)
    assert done.code == 0, done.failed()
    (group,) = done.results['comparisons']
    assert list(group['differences']) == ['c1', 'c2', 'c3', 'c4']


def test_published_checkpoints_and_their_folder(tmp_path: Path, data: Path, tools: Path) -> None:
    elsewhere = tmp_path / 'elsewhere'
    more = f'default_hooks = dict(checkpoint=dict(type="CheckpointHook", out_dir="{elsewhere}"))'
    configs = [a_config(tmp_path, data, name, more, step=k) for k, name in enumerate('ab')]
    for _ in range(2):
        done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0)
        assert done.code == 0
    metrics = [run['metrics']['coco/bbox_mAP'] for run in done.results['runs']]
    assert metrics[0] != metrics[1]
    assert not elsewhere.exists()
    assert (tmp_path / 'out/runs/a/seed0/epoch_5-fe67127b.pth').is_file()


def test_results_hold_whole_paths_and_are_read_from_another_folder(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(tmp_path, data, 'a')
    config.write_text(config.read_text().replace(str(data), 'data'))
    monkeypatch.chdir(tmp_path)
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert done.code == 0
    assert done.results['runs'][0]['annotations'] == str(data / 'annotations.json')
    (tmp_path / 'other').mkdir()
    monkeypatch.chdir(tmp_path / 'other')
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert done.failed()['a', 0].startswith('not started: annotations that the val split')
    assert str(tmp_path / 'other/data/annotations.json') in done.failed()['a', 0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['missing.py'], 'no such config file: missing.py'),
        (
            [__file__, __file__],
            f'test_plan. Give each a name of its own: first={__file__} second={__file__}',
        ),
        ([f'a={__file__}', f'a={__file__}'], 'config name given twice: a.'),
        ([f'={__file__}'], f'no such config file: ={__file__}'),
        ([f'..={__file__}'], f'no such config file: ..={__file__}'),
        ([f'a/b={__file__}'], f'no such config file: a/b={__file__}'),
        (['a=missing.py'], 'no such config file: missing.py'),
        ([__file__, '--seeds', '1', '1'], 'given twice: 1'),
        ([__file__, '--jobs', '0'], '--jobs'),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parse_args([*arguments, '--out', 'x'])
    assert message in capsys.readouterr().err


def test_configs_of_one_file_name_are_told_apart(tmp_path: Path, data: Path, tools: Path) -> None:
    files = []
    for loss, step in (('focal', 0.3), ('varifocal', 0.1)):
        (tmp_path / loss).mkdir()
        files.append(a_config(tmp_path / loss, data, 'best', step=step))
    named = [f'{file.parent.name}={file}' for file in files]
    together = compare(tools, tmp_path / 'out', *named, '--seeds', 0).results['summary']
    alone = []
    for file in files:
        done = compare(tools, tmp_path / f'only {file.parent.name}', file, '--seeds', 0)
        alone += done.results['summary']
    assert [row['name'] for row in together] == ['focal', 'varifocal']
    assert [row['mAP'] for row in together] == [row['mAP'] for row in alone]
    assert alone[0]['mAP'] != alone[1]['mAP']


def test_an_equals_sign_in_a_path_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ('lr=0.1.py', 'rate=1/best.py'):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    configs = parse_args(['lr=0.1.py', 'rate=1/best.py', 'c=rate=1/best.py', '--out', 'x']).configs
    assert [config.name for config in configs] == ['lr=0.1', 'best', 'c']
    assert configs[1].path == configs[2].path == Path('rate=1/best.py')


def test_trainings_of_different_lengths_are_named(tmp_path: Path, data: Path, tools: Path) -> None:
    long = a_config(tmp_path, data, 'long')
    short = a_config(tmp_path, data, 'short', 'epochs = 2')
    note = 'were trained for different numbers of iterations: long 50, short 20.'
    done = compare(tools, tmp_path / 'out', long, short)
    assert note in done.page
    assert note in (tmp_path / 'out/report.md').read_text()
    again = compare(tools, tmp_path / 'same', long, a_config(tmp_path, data, 'other', step=0.2))
    assert 'different numbers' not in again.page
