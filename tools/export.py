"""Export a detector to ONNX and compare its boxes with PyTorch's. See ``--help``."""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone, installed or not
    from mmfocalx.engine.export import main

    sys.exit(main())
