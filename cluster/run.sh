#!/usr/bin/env bash
# One node's part of a run: look whether the node is fit, then start its processes.
#
#     NODE=0 HEAD=first-node ADDRESS=this-node RUN=name bash cluster/run.sh SETTINGS
#
# slurm.sh, kubernetes.yaml and single_node.sh call it on every node. The same command
# goes on from the newest checkpoint, whatever ended the run before.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster/full_236b.env
. "$1"
: "${NODE:?0 on the first node}" "${HEAD:?}" "${ADDRESS:?}" "${RUN:?}"

unfit() {
    echo "cluster: $ADDRESS cannot take part: $*" >&2
    exit 1
}

# --- is this node fit?

# -P: not from the folder that this happens to be started in
seen=$("$PYTHON" -P -c 'import minicoder, torch; print(torch.cuda.device_count())') ||
    unfit "$PYTHON does not import minicoder (PYTHON in $1; pip install it there)"
if [ "$DEVICE" = cuda ]; then
    [ "$seen" -ge "$GPUS_PER_NODE" ] ||
        unfit "torch sees $seen GPUs, and $GPUS_PER_NODE are asked for"
    query=index,ecc.errors.uncorrected.volatile.total,clocks_throttle_reasons.hw_slowdown
    if ! command -v nvidia-smi > /dev/null ||
        ! state=$(nvidia-smi --query-gpu="$query" --format=csv,noheader); then
        echo "cluster: $ADDRESS: no word of nvidia-smi on memory errors and clocks" >&2
        state=
    fi
    while IFS=, read -r gpu errors slow; do
        case $errors in *[1-9]*) unfit "GPU $gpu has$errors uncorrected memory errors" ;; esac
        case $slow in " Active") unfit "GPU $gpu is slowed down by heat or power" ;; esac
    done <<< "$state"
fi
mkdir -p "$(dirname "$OUT")"
free=$(df -Pk "$(dirname "$OUT")" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
[ "$free" -ge "$FREE_GIB" ] ||
    unfit "$free GiB are free for $OUT, and $FREE_GIB are asked for (FREE_GIB in $1)"

# --- what the processes find in their environment

cores=$(env -u OMP_NUM_THREADS nproc)    # that this task may use
export OMP_NUM_THREADS=$((cores > GPUS_PER_NODE ? cores / GPUS_PER_NODE : 1))
export PYTHONUNBUFFERED=1
export PYTORCH_ALLOC_CONF=expandable_segments:True  # rows of experts vary in number
# a new store for each restart: in the old one are addresses of processes that are gone
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}
if [ -n "$INTERFACE" ]; then
    export NCCL_SOCKET_IFNAME=$INTERFACE GLOO_SOCKET_IFNAME=$INTERFACE
fi

is_head=$([ "$NODE" = 0 ] && echo true || echo false)
exec "$PYTHON" -m torch.distributed.run \
    --nnodes "$NODES" --nproc-per-node "$GPUS_PER_NODE" --max-restarts "$RESTARTS" \
    --rdzv-id "$RUN" --rdzv-backend c10d --rdzv-endpoint "$HEAD:$PORT" \
    --rdzv-conf "is_host=$is_head,join_timeout=900,read_timeout=900" \
    --local-addr "$ADDRESS" -- "$here/start.py" "${PROGRAM[@]}"
