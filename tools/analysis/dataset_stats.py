"""Describe a data set and suggest settings of a focal loss for it. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # this clone, installed or not
    from mmfocalx.optional import ANALYSIS, need

    need('dataset_stats.py', ANALYSIS)
    from mmfocalx.analysis.dataset_cli import main

    sys.exit(main())
