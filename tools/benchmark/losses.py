"""Measure the losses beside other libraries' and write the page about it. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # this clone, installed or not
    from benchmark.cli import main

    sys.exit(main())
