"""Find the score thresholds of a file of detections and calibrate its scores. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # this clone, installed or not
    from mmfocalx.optional import ANALYSIS, need

    need('operating_point.py', ANALYSIS)
    from mmfocalx.analysis.operating_cli import main

    sys.exit(main())
