"""Every number is of what the comparison says: configs, checkpoints, data and seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import stub_tools
from helpers.comparing import compare
from mmfocalx.compare import execution
from mmfocalx.compare.child_process import locked


def a_config(tmp_path: Path, data: Path, name: str, **settings) -> Path:
    return stub_tools.write_config(tmp_path / f'{name}.py', data, **{'pause': 0.01, **settings})


def stub_value(seed: int, step: float, start: float = 0.0) -> float:
    """What a whole stub training ends with, written down again."""
    value = seed + 1.0 + start
    for epoch in range(1, 6):
        value = (value * 1.37 + step * epoch) % 1
    return value


def logged(compared) -> dict[tuple[str, int], float]:
    return {
        (run['name'], run['seed']): run['metrics']['coco/bbox_mAP']
        for run in compared.results['runs']
    }


@pytest.mark.parametrize('more', ['', '\nresume = True', '\nresume = False'])
def test_fine_tuning_starts_from_its_checkpoint(
    tmp_path: Path, data: Path, tools: Path, more: str
) -> None:
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_text('0.25')
    a_config(tmp_path, data, 'scratch')
    a_config(tmp_path, data, 'tuned', more=f"load_from = '{checkpoint}'{more}")
    done = compare(tools, tmp_path / 'out', tmp_path / 'scratch.py', tmp_path / 'tuned.py',
                   '--seeds', 0, 1)  # fmt: skip
    assert done.code == 0
    for seed in (0, 1):
        assert logged(done)['tuned', seed] == pytest.approx(stub_value(seed, 0.1, 0.25))
        assert logged(done)['scratch', seed] == pytest.approx(stub_value(seed, 0.1))
    word = 'goes on with the training of' if 'True' in more else 'starts from the checkpoint'
    assert f'tuned {word} {checkpoint}' in done.page


def test_killed_fine_tuning_goes_on_from_its_own_checkpoint(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_text('0.25')
    config = a_config(tmp_path, data, 'tuned', more=f"load_from = '{checkpoint}'")
    whole = (tools / 'train.py').read_text()
    (tools / 'train.py').write_text(
        whole.replace(
            "'Epoch(train)", "''); epoch == 3 and os.kill(os.getpid(), 9); print(f'Epoch(train)"
        )
    )
    killed = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert killed.failed()['tuned', 0] == 'training: killed by signal 9'
    (tools / 'train.py').write_text(whole)
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert logged(done)['tuned', 0] == pytest.approx(stub_value(0, 0.1, 0.25))


def test_pretrained_checkpoint_that_changed_is_another_training(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    checkpoint = tmp_path / 'pretrained.pth'
    checkpoint.write_text('0.25')
    config = a_config(tmp_path, data, 'tuned', more=f"load_from = '{checkpoint}'")
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    checkpoint.write_text('0.75')
    with pytest.raises(SystemExit, match=f'the content of {checkpoint} differs'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0)
    checkpoint.unlink()  # a training that is done does not need it any more
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0).code == 0


def test_resume_alone_does_nothing(tmp_path: Path, data: Path, tools: Path) -> None:
    config = a_config(tmp_path, data, 'a', more='resume = True')
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert logged(done)['a', 0] == pytest.approx(stub_value(0, 0.1))
    assert 'a sets resume=True, which does nothing here' in done.page


def test_config_edited_between_two_seeds(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(tmp_path, data, 'a')
    carry_out = execution._carry_out

    def edit_before_the_second(run, *rest):
        if run.seed == 1:
            a_config(tmp_path, data, 'a', step=0.7)
        return carry_out(run, *rest)

    monkeypatch.setattr(execution, '_carry_out', edit_before_the_second)
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert done.code == 0
    assert logged(done)['a', 1] == pytest.approx(stub_value(1, 0.1))
    assert 'was edited while the comparison ran: every number here is of what it said' in done.page
    with pytest.raises(SystemExit, match=r'seed 0 .*the config with its options differs'):
        compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)


def edit(path: Path, shift: float) -> None:
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation['bbox'][0] += shift
    path.write_text(json.dumps(content))


def test_training_data_changed_between_two_calls(tmp_path: Path, data: Path, tools: Path) -> None:
    config = a_config(tmp_path, data, 'a')
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    edit(data / 'annotations.json', 3)
    with pytest.raises(SystemExit) as refused:
        compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert f'the content of {data / "annotations.json"} differs' in str(refused.value)
    assert '--rerun-changed' in str(refused.value)
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1, '--rerun-changed')
    assert done.code == 0
    assert (tmp_path / 'out/runs/a/seed0.old1/val/result.json').is_file()


def test_tested_data_changed_between_two_calls_are_tested_again(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    other = data / 'val.json'
    other.write_text((data / 'annotations.json').read_text())
    more = f"val_evaluator = dict(type='CocoMetric', ann_file='{other}')"
    config = a_config(tmp_path, data, 'a', more=more)
    first = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    content = json.loads(other.read_text())
    content['annotations'] = content['annotations'][:-6]
    other.write_text(json.dumps(content))
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert done.code == 0
    hashes = {json.dumps(run['identity']['testing']) for run in done.results['runs']}
    assert len(hashes) == 1
    assert hashes != {json.dumps(first.results['runs'][0]['identity']['testing'])}
    assert len((tmp_path / 'out/runs/a/seed0/starts.txt').read_text().splitlines()) == 1
    assert 'a was trained beside other val annotations: its mAP while training is left out' in (
        done.page
    )


def test_data_changed_while_a_comparison_runs(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(tmp_path, data, 'a')
    carry_out = execution._carry_out

    def edit_before_the_second(run, *rest):
        if run.seed == 1:
            edit(data / 'annotations.json', 3)
        return carry_out(run, *rest)

    monkeypatch.setattr(execution, '_carry_out', edit_before_the_second)
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert done.code == 1
    assert 'since the comparison was started' in done.failed()['a', 1]
    assert done.seeds() == {'a': [0]}  # judged before the data changed


@pytest.mark.parametrize('mood', ['broken', 'killed', 'diverges'])
def test_baseline_that_fails_is_not_replaced(
    tmp_path: Path, data: Path, tools: Path, mood: str
) -> None:
    a_config(tmp_path, data, 'base', mood=mood)
    for k, name in enumerate('ab'):
        a_config(tmp_path, data, name, step=k)
    configs = [tmp_path / f'{name}.py' for name in ('base', 'a', 'b')]
    done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0)
    assert done.code == 1
    (group,) = done.results['comparisons']
    assert (group['baseline'], group['differences']) == (None, {})
    assert done.seeds() == {'base': [], 'a': [0], 'b': [0]}
    assert 'No baseline: base, the first config given, has no finished run' in done.page
    assert 'No other config takes its place' in done.page


def test_pairs_are_of_the_same_seeds(tmp_path: Path, data: Path, tools: Path) -> None:
    a_config(tmp_path, data, 'base', mood='broken at seed 1')
    a_config(tmp_path, data, 'a', step=0.3)
    configs = [tmp_path / f'{name}.py' for name in ('base', 'a')]
    done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0, 1, 2)
    assert done.code == 1
    ap = {(run['name'], run['seed']): run['ap']['mAP'] for run in done.results['runs']}
    expected = 100 * sum(ap['a', seed] - ap['base', seed] for seed in (0, 2)) / 2
    found = done.difference('a')
    assert found['seeds'] == [0, 2]
    for interval in ('over_images', 'over_seeds'):
        assert found[interval]['difference'] == pytest.approx(expected)
    assert 'a is compared with the baseline base over the seeds that both have: 0, 2.' in done.page
    assert 'no best one is marked' in done.page
    assert 'base, seed 1: training: mmengine.FancyError: no such loss' in done.page


def test_training_that_diverges_is_no_run_with_a_map_of_0(
    tmp_path: Path, data: Path, tools: Path
) -> None:
    a_config(tmp_path, data, 'a', mood='diverges')
    a_config(tmp_path, data, 'b', mood='hiccup')
    configs = [tmp_path / 'a.py', tmp_path / 'b.py']
    for _ in range(2):  # the second call does not train it again
        done = compare(tools, tmp_path / 'out', *configs, '--seeds', 0)
        reason = 'training: the loss is NaN or infinite from epoch 3 on'
        assert done.failed() == {('a', 0): reason}
        assert len((tmp_path / 'out/runs/a/seed0/starts.txt').read_text().splitlines()) == 1
    assert done.seeds()['b'] == [0]


def test_versions_that_differ_are_said(tmp_path: Path, data: Path, tools: Path) -> None:
    config = a_config(tmp_path, data, 'a')
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    path = tmp_path / 'out/runs/a/seed0/val/result.json'
    result = json.loads(path.read_text())
    new, result['versions']['torch'] = result['versions']['torch'], '1.0'
    path.write_text(json.dumps(result))
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0, 1)
    assert f'trained with different versions of torch: 1.0, {new}' in done.page


def test_rerun_waits_for_nothing_that_is_at_work(
    tmp_path: Path, data: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = a_config(tmp_path, data, 'a')
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    a_config(tmp_path, data, 'a', step=0.9)
    with (
        locked(tmp_path / 'out' / 'runs/a/seed0'),
        pytest.raises(SystemExit, match=r'in use by process \d+'),
    ):
        compare(tools, tmp_path / 'out', config, '--seeds', 0, '--rerun-changed')
    assert (tmp_path / 'out/runs/a/seed0/val/result.json').is_file()
