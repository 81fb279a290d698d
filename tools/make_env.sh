#!/usr/bin/env bash
# Makes, or completes, a virtual environment with torch, one OpenMMLab stack and this package:
#     tools/make_env.sh {fork|upstream} DIRECTORY
# Nothing that is already there is installed again. PYTHON chooses the interpreter, TORCH the torch
# requirement, pip's own settings (PIP_FIND_LINKS, PIP_INDEX_URL, ...) where packages come from.
set -euo pipefail

stack=${1:-}
env=${2:-}
case $#:$stack in
    2:fork | 2:upstream) ;;
    *)
        echo 'usage: tools/make_env.sh {fork|upstream} DIRECTORY' >&2
        exit 2
        ;;
esac
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

read -r mmcv version pair < <("$env/bin/python" - "$stack" <<'PYTHON'
import runpy, sys, torch
mmcv = runpy.run_path('mmfocalx/compat.py')['STACKS'][sys.argv[1]]['mmcv']
python = '.'.join(map(str, sys.version_info[:2]))
print(mmcv.distribution, mmcv.tested, f'python{python}-torch{torch.__version__}')
PYTHON
)
cache=$(pip cache dir 2>/dev/null) || cache=$(realpath "$env")
kept=$cache/mmfocalx/$pair

# No debug symbols: 84 MB less. CFLAGS replaces Python's own flags, -O3 among them: repeat those.
flags=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS") or "")')
CFLAGS="$flags -g0 ${CFLAGS:-}"
PATH="$(realpath "$env")/bin:$PATH"
MAX_JOBS=${MAX_JOBS:-$(nproc)}
export PATH CFLAGS MAX_JOBS

# A wheel's name does not say which torch it was built for: only loading it shows whether it fits.
install_wheel() {
    pip install --quiet --no-deps "$@" || return
    if "$env/bin/python" - <<'PYTHON'
import ctypes, importlib.util, os, pathlib, torch
(folder,) = importlib.util.find_spec('mmcv').submodule_search_locations
(library,) = pathlib.Path(folder).glob('_ext.*.so')
ctypes.CDLL(str(library), mode=os.RTLD_NOW)
PYTHON
    then return; fi
    echo "make_env: the wheel of $mmcv $version was built for another torch, it is not used."
    pip uninstall --quiet --yes "$mmcv"
    return 1
}

builds_for_cpu() {
    "$env/bin/python" -c 'import os, sys, torch; sys.exit(
        sys.platform != "linux" or torch.cuda.is_available() or os.getenv("FORCE_CUDA") == "1")'
}

# A file of operators costs what torch's headers cost: eight files take a fifth of 78's time.
compile_in_few_files() {
    local work code
    work=$(mktemp -d)
    pip download --no-deps --no-build-isolation --no-binary "$mmcv" -d "$work" "$mmcv==$version" &&
        tar -xzf "$work"/*.tar.gz -C "$work" &&
        "$env/bin/python" tools/unite_sources.py "$work"/*/mmcv/ops/csrc/pytorch{,/cpu} &&
        pip wheel --no-deps --no-build-isolation -w "$work" "$work"/*/ &&
        install_wheel "$work"/*.whl &&
        mkdir -p "$kept" && mv "$work"/*.whl "$kept"
    code=$?
    rm -rf "$work"
    return $code
}

# Minutes of one core, as the slower of two machines took them.
say_how_long() {
    echo "make_env: $1: about $((($2 + MAX_JOBS - 1) / MAX_JOBS)) minutes on $MAX_JOBS cores."
}

if [ "$(installed_version "$mmcv")" != "$version" ] &&
    ! install_wheel --only-binary "$mmcv" "$mmcv==$version" 2>/dev/null; then
    why="no wheel of $mmcv $version for $pair is at hand, it is compiled"
    log=$env/mmcv.log
    if ! builds_for_cpu; then
        echo "make_env: $why as its authors do (a GPU, or not Linux), which takes a while."
    elif ! install_wheel "$kept/${mmcv//-/_}-$version"-*.whl 2>/dev/null; then
        say_how_long "$why" 4
        compile_in_few_files >"$log" 2>&1 ||
            say_how_long "that failed (see $log), now as its authors do" 22
    fi
fi
# No isolation: mmcv compiles against the torch of this environment.
pip install --no-build-isolation --editable ".[$stack,dev,demo,report,analysis,classification,export,sweep]" "$torch"

# Both flavours of OpenCV own the same folder, and the one with windows needs libGL, which servers
# and containers lack: keep the headless one.
opencv=$(installed_version opencv-python)
if [ -n "$opencv" ]; then
    pip uninstall --quiet --yes opencv-python
    pip install --quiet --no-deps --force-reinstall "opencv-python-headless==$opencv"
fi

"$env/bin/python" -c 'from mmfocalx import compat; compat.require("mmdet"); import cv2'
