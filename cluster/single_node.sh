#!/usr/bin/env bash
# Train on the GPUs of this machine:
#
#     bash cluster/single_node.sh cluster/lite_16b.env
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster/lite_16b.env
. "${1:?Usage: bash cluster/single_node.sh SETTINGS}"
if [ "$NODES" != 1 ]; then
    echo "cluster: $1 asks for $NODES nodes; this is one" >&2
    exit 2
fi
NODE=0 HEAD=localhost ADDRESS=localhost RUN=$NAME-$$ exec bash "$here/run.sh" "$1"
