"""Train and test several configs over several seeds and report what differs. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    tools = Path(__file__).resolve().parent
    sys.path[0] = str(tools.parent)  # this clone, installed or not
    from mmfocalx.compare.cli import main

    sys.exit(main(tools))
