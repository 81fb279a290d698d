"""Search for the setting of a config with the largest mAP, with Optuna. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    tools = Path(__file__).resolve().parent
    sys.path[0] = str(tools.parent)  # this clone, installed or not
    from mmfocalx.sweep.cli import main

    sys.exit(main(tools))
