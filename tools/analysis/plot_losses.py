"""Draw value and gradient of every classification loss, or those of a config. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # this clone, installed or not
    from mmfocalx.analysis.loss_gallery import main

    sys.exit(main())
