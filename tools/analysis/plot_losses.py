"""Draw value and gradient of every classification loss, or those of a config. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    tools = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(tools.parent), str(tools / 'docs')]  # this clone, installed or not
    from loss_gallery import main

    sys.exit(main())
