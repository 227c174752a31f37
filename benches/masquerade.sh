#!/usr/bin/env bash
# Measures masquerading on this machine, in throw-away namespaces: syncs, processes, memory, healing, cost per new flow.
# usage: masquerade.sh BINARY [IDLE_SECONDS [PEER]]
# PEER is the program of kubernetes-sigs/ip-masq-agent (go build ./cmd/ip-masq-agent), measured on the same lists.
set -euo pipefail
binary=$(realpath "${1:?usage: masquerade.sh BINARY [IDLE_SECONDS [PEER]]}")
idle=${2:-70}
peer=${3:+$(realpath "$3")}
here=$(cd "$(dirname "$0")" && pwd)
if [ "${STAGED:-}" != yes ]; then
  [ "$(id -u)" = 0 ] || exec sudo "$0" "$binary" "$idle" $peer
  STAGED=yes exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$binary" "$idle" $peer
fi
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
# The peer reads its configuration from one place only.
layers=$(mktemp -d)
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$layers/upper,workdir=$layers/work" /etc
ip link set lo up
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 "$here/masquerade.py" all "$binary" "$folder" "$idle" $peer
