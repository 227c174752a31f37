#!/usr/bin/env bash
# Measures masquerading on this machine, in throw-away namespaces: syncs, processes, memory, healing, cost per new flow.
# usage: masquerade.sh BINARY [IDLE_SECONDS]
set -euo pipefail
binary=$(realpath "${1:?usage: masquerade.sh BINARY [IDLE_SECONDS]}")
idle=${2:-70}
here=$(cd "$(dirname "$0")" && pwd)
if [ "${STAGED:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || exec sudo "$0" "$binary" "$idle"
  STAGED=yes exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$binary" "$idle"
fi
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 "$here/masquerade.py" all "$binary" "$folder" "$idle"
