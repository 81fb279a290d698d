#!/usr/bin/env bash
# Trains and tests one config on the original OpenMMLab stack (mmengine 0.10.7, mmcv 2.1.0,
# mmdet 3.3.0), in an environment of its own, with this project's tools and with mmdet's own:
#     tools/upstream_check.sh [CONFIG] [MORE OPTIONS OF train.py]
# UPSTREAM_ENV names another environment, UPSTREAM_OUT another folder for the results.
set -euo pipefail
cd "$(dirname "$0")/.."

env=${UPSTREAM_ENV:-.venv-upstream}
out=${UPSTREAM_OUT:-work_dirs/upstream_check}
config=${1:-configs/retinanet/retinanet_r18-w16_fpn_varifocal_12e_digit-scenes.py}
shift || true

tools/make_env.sh upstream "$env"
python=$env/bin/python
rm -rf "$out"

"$python" -m mmfocalx.datasets.digit_scenes

echo "== train one epoch: tools/train.py"
"$python" tools/train.py "$config" --work-dir "$out/train" "$@" \
    --cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1

echo "== resume for one more: tools/train.py --resume"
"$python" tools/train.py "$config" --work-dir "$out/train" --resume "$@" \
    --cfg-options train_cfg.max_epochs=2 train_cfg.val_interval=1
checkpoint=$(cat "$out/train/last_checkpoint")

echo "== test: tools/test.py"
"$python" tools/test.py "$config" "$checkpoint" --work-dir "$out/ours"

echo "== test: mmdet's own tools/test.py"
mmdet=$("$python" -c 'import mmdet; print(mmdet.__path__[0])' | tail -n 1)
"$python" "$mmdet/.mim/tools/test.py" "$config" "$checkpoint" --work-dir "$out/mmdet"

"$python" - "$out" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path


def metrics(tool):
    (path,) = Path(sys.argv[1], tool).glob('*/*.json')
    return {k: v for k, v in json.loads(path.read_text()).items() if k.startswith('coco/')}


ours, theirs = metrics('ours'), metrics('mmdet')
if not ours or ours != theirs:
    sys.exit(f'The two test tools disagree: {ours} and {theirs}')
print({name: version(name) for name in ('mmengine', 'mmcv', 'mmdet', 'torch')})
print(f'Upstream stack: trained, resumed and tested; both test tools agree: {ours}')
PYTHON
