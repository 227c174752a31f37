#!/usr/bin/env bash
# Measures the daemon on this machine, in throw-away namespaces and a temporary cgroup subtree.
# usage: daemon.sh BINARY [IDLE_SECONDS]
set -euo pipefail
binary=$(realpath "${1:?usage: daemon.sh BINARY [IDLE_SECONDS]}")
idle=${2:-130}
here=$(cd "$(dirname "$0")" && pwd)
if [ "${STAGED:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || exec sudo "$0" "$binary" "$idle"
  STAGED=yes exec unshare --net --ipc --uts --mount --pid --fork --kill-child --mount-proc "$0" "$binary" "$idle"
fi
# shellcheck source-path=SCRIPTDIR source=../deploy/demo/stage.sh
. "$here/../deploy/demo/stage.sh"
stage_open
trap stage_close EXIT
stage_profile
stage_pod Guaranteed database 1000 1000 $((64 << 20))
stage_pod Burstable web 250 500 $((32 << 20))
stage_pod BestEffort batch 0 0 0
python3 "$here/daemon.py" "$idle" "$STAGE/log" "$binary" run --profile "$STAGE/profile.yaml" --state-dir "$STAGE/state" \
  --host-root "$HOST" --cgroup-root "/$CGROUP" --node-name bench --socket /run/trimtab.sock --http 127.0.0.1:9808
