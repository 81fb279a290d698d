"""What the tools print while they work."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from helpers import stub_tools
from helpers.comparing import compare
from mmfocalx.compare.resolved_config import read_config
from mmfocalx.reporting.console import write_line_by_line


def test_a_log_names_each_run_when_it_begins(
    tmp_path: Path, data: Path, tools: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = stub_tools.write_config(tmp_path / 'b.py', data)
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    capsys.readouterr()
    compare(tools, tmp_path / 'out', config, other, '--seeds', 0)
    lines = [line.split(':')[0].split(' (')[0] for line in capsys.readouterr().out.splitlines()]
    said = [line for line in lines if line.startswith(('begun', 'done', 'was there'))]
    assert said == ['was there a seed 0', 'begun     b seed 0', 'done      b seed 0']


def test_a_log_has_map_in_percent_as_the_report_has(
    tmp_path: Path, data: Path, tools: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compare(tools, tmp_path / 'out', config, '--seeds', 0)
    measured = 100 * done.results['runs'][0]['metrics']['coco/bbox_mAP']
    assert measured > 1
    assert f'done      a seed 0: mAP {measured:.1f} %' in capsys.readouterr().out.splitlines()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What mmengine's logger lets through, whatever level other tests left it at."""
    logger = MMLogger.get_current_instance()
    before, stream = logger.level, io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_configs_are_read_without_lines_on_environment_variables(
    tmp_path: Path,
    tools: Path,
    config: Path,
    logged: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('NOTE_OF_A', 'from the environment')
    config.write_text(config.read_text() + "\nnote = '{{$NOTE_OF_A:nothing}}'\n")
    assert compare(tools, tmp_path / 'out', config, '--seeds', 0).code == 0
    assert read_config(config).note == 'from the environment'
    assert logged.getvalue() == ''
    assert MMLogger.get_current_instance().level == logging.INFO
    Config.fromfile(str(config))
    assert 'NOTE_OF_A' in logged.getvalue()  # so it would have been seen


@pytest.mark.parametrize(('level', 'shown'), [(logging.INFO, True), (logging.ERROR, False)])
def test_a_warning_of_a_config_is_shown_if_the_level_lets_it(
    config: Path, logged: io.StringIO, level: int, shown: bool
) -> None:
    MMLogger.get_current_instance().setLevel(level)
    warning = "__import__('mmengine').logging.print_log('old key', 'current', 30)\n"
    config.write_text(warning + config.read_text())
    read_config(config)
    assert ('old key' in logged.getvalue()) == shown


def test_a_log_names_what_is_written_next(
    tmp_path: Path, data: Path, tools: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    for split, log in (('val', 'train.log'), ('test', 'test.log')):
        compare(tools, out, config, '--seeds', 0, split=split)
        written = out / 'runs/a/seed0' / log
        assert f'begun     a seed 0 (log: {written})' in capsys.readouterr().out
        assert written.exists()


def test_a_line_is_there_at_once_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, encoding='ascii'))
    write_line_by_line()
    print('mAP 28.1 ± 0.4')
    assert written.getvalue() == b'mAP 28.1 ? 0.4\n'


def test_compare_writes_line_by_line(
    tmp_path: Path, tools: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO()))
    compare(tools, tmp_path / 'out', config, '--seeds', 0)
    assert sys.stdout.line_buffering
