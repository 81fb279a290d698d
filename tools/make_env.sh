#!/usr/bin/env bash
# Makes, or completes, a virtual environment with torch, one OpenMMLab stack and this package:
#     tools/make_env.sh {fork|upstream} DIRECTORY
# Nothing that is already there is installed again. PYTHON chooses the interpreter, TORCH the torch
# requirement, pip's own settings (PIP_FIND_LINKS, PIP_INDEX_URL, ...) where packages come from.
set -euo pipefail

stack=$1
env=$2
torch=${TORCH:-torch==2.13.0}
cd "$(dirname "$0")/.."

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

fail() {
    echo "make_env: $*" >&2
    exit 1
}

if ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then
    for python in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
        if supported "$python"; then break; fi
        python=
    done
    [ -n "$python" ] || fail "no Python 3.10 to 3.12 found; name one with PYTHON=/path/to/python"
    "$python" -m venv "$env"
fi
supported "$env/bin/python" || fail "$env is not of Python 3.10 to 3.12: remove it and run again"

pip() {
    "$env/bin/python" -m pip --disable-pip-version-check "$@"
}

installed_version() {
    pip show "$1" 2>/dev/null | sed -n 's/^Version: //p'
}

pip install --quiet --upgrade pip 'setuptools<80' wheel packaging ninja
pip install "$torch"

case $stack in
    fork) mmcv=onedl-mmcv ;;
    upstream) mmcv=mmcv ;;
    *) fail "expected the stack 'fork' or 'upstream', but got '$stack'" ;;
esac
if [ -z "$(installed_version $mmcv)" ]; then
    echo "make_env: without a wheel at hand, $mmcv is now compiled, which takes a while."
fi
# No isolation: mmcv compiles against the torch of this environment. No debug symbols: 84 MB less.
PATH="$(realpath "$env")/bin:$PATH" CFLAGS="-g0 ${CFLAGS:-}" MAX_JOBS=${MAX_JOBS:-$(nproc)} \
    pip install --no-build-isolation --editable ".[$stack,dev,demo,report]" "$torch"

# Both flavours of OpenCV own the same folder, and the one with windows needs libGL, which servers
# and containers lack: keep the headless one.
opencv=$(installed_version opencv-python)
if [ -n "$opencv" ]; then
    pip uninstall --quiet --yes opencv-python
    pip install --quiet --no-deps --force-reinstall "opencv-python-headless==$opencv"
fi

"$env/bin/python" -c 'from mmfocalx import compat; compat.require("mmdet"); import cv2'
