"""Test a detector: mmdet's command line, and ``--trust-checkpoint``. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone, installed or not
    from mmfocalx.engine.tools import run

    run('test.py')
