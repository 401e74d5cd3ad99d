#!/usr/bin/env bash
# Train on a SLURM cluster:
#
#     bash cluster/slurm.sh cluster/full_236b.env
#
# Outside a job this submits itself; inside, it starts one task on each node. The job is
# put into the queue again when a node dies, when it failed after RETRY_AFTER seconds
# (a run that fails sooner would fail again), and five minutes before its time is over.
set -euo pipefail
settings=$(realpath "${1:?Usage: bash cluster/slurm.sh SETTINGS}")
here=${2:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}    # a job runs a copy
# shellcheck source=cluster/full_236b.env
. "$settings"

if [ -z "${SLURM_JOB_ID:-}" ]; then
    exec sbatch --job-name "$NAME" --nodes "$NODES" --ntasks-per-node 1 \
        --gpus-per-node "$GPUS_PER_NODE" --exclusive --requeue --open-mode append \
        --output "$NAME-%j.log" --signal B:USR1@300 "${SLURM_OPTIONS[@]}" \
        "$here/slurm.sh" "$settings" "$here"
fi

again() {
    echo "cluster: job $SLURM_JOB_ID goes back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
}
trap again USR1

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD=${nodes[0]}
RUN=$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
export HEAD RUN
# shellcheck disable=SC2016
srun --nodes "$NODES" --ntasks "$NODES" --ntasks-per-node 1 --kill-on-bad-exit=1 \
    --cpu-bind=none bash -c \
    'NODE=$SLURM_NODEID ADDRESS=$SLURMD_NODENAME exec bash "$0/run.sh" "$1"' \
    "$here" "$settings" &
steps=$!
status=0
wait "$steps" || status=$?
while kill -0 "$steps" 2> /dev/null; do     # `wait` ends when the signal comes
    status=0
    wait "$steps" || status=$?
done
if [ "$status" != 0 ] && [ "$SECONDS" -ge "$RETRY_AFTER" ]; then
    again
fi
exit "$status"
