#!/usr/bin/env bash
# dist_train.sh CONFIG GPUS [options of train.py]
[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [options of train.py]" >&2; exit 2; }
exec "$(dirname "$0")/dist.sh" "$2" train.py "$1" "${@:3}"
