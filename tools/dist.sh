#!/usr/bin/env bash
# dist.sh PROCESSES TOOL [arguments of TOOL]: one process of tools/TOOL per GPU (or CPU rank).
# NNODES, NODE_RANK, MASTER_ADDR and PORT describe a launch on several machines.
set -euo pipefail
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$1" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$(dirname "$0")/$2" "${@:3}" --launcher pytorch
