#!/usr/bin/env bash
# Installs what the demo and the tests need and the machine lacks: on Debian and Ubuntu by apt, elsewhere it says what.
# With the argument `lab` also what the machines of the lab need.
set -euo pipefail

# A container runtime for the tests, unpacked beside the system. Tests that miss it say so (and fail in CI).
fetch_runtime() {
  local lab
  lab=$(dirname "$0")/../../tests/lab
  "$lab/packages.sh" trixie containerd >/dev/null &&
    "$lab/packages.sh" bookworm containerd runc busybox-static >/dev/null ||
    echo "no container runtime could be fetched: the tests that need one will be skipped" >&2
}

# The checker of rules and metrics, unpacked beside the system: installed, its package would start a server.
fetch_promtool() {
  command -v promtool >/dev/null || "$(dirname "$0")/../../tests/lab/packages.sh" bookworm prometheus >/dev/null ||
    echo "promtool could not be fetched: the test of the alert rules will be skipped" >&2
}

# A firewall manager for the tests, unpacked beside the system: installed, it would guard this machine.
fetch_firewalld() {
  "$(dirname "$0")/../../tests/lab/packages.sh" bookworm firewalld python3-firewall python3-nftables >/dev/null ||
    echo "firewalld could not be fetched: the test beside it will be skipped" >&2
}

# A Go compiler and the kubelet's own client, unpacked beside the system; which packages, the test says itself.
fetch_go_client() {
  local lab
  lab=$(dirname "$0")/../../tests/lab
  "$lab/packages.sh" trixie golang-1.24-go golang-1.24-src golang-google-grpc-dev golang-google-protobuf-dev \
    golang-google-genproto-dev golang-github-golang-protobuf-1-5-dev golang-github-gogo-protobuf-dev \
    golang-golang-x-net-dev golang-golang-x-sys-dev golang-golang-x-text-dev >/dev/null &&
    "$lab/packages.sh" forky golang-github-kubernetes-kubelet-dev >/dev/null ||
    echo "the kubelet's Go client could not be fetched: the test with it will be skipped" >&2
}

# program:Debian package
wanted=(chromium:chromium iptables:iptables nft:nftables ip:iproute2 unshare:util-linux sysctl:procps python3:python3 kubectl:kubernetes-client curl:curl dbus-daemon:dbus-daemon)
[ "${1:-}" != lab ] || wanted+=(qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mke2fs:e2fsprogs depmod:kmod cpio:cpio xz:xz-utils)
missing=()
for entry in "${wanted[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
# The gRPC client that is not ours, for the socket's interoperability test.
/usr/bin/python3 -c 'import grpc, google.protobuf' 2>/dev/null || missing+=(python3-grpcio python3-protobuf)
# What firewalld is written against.
/usr/bin/python3 -c 'import dbus, gi' 2>/dev/null || missing+=(python3-dbus python3-gi gir1.2-glib-2.0)
# For the folder that the schema checker lives in.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -gt 0 ] || {
  fetch_runtime
  fetch_promtool
  fetch_firewalld
  fetch_go_client
  exit 0
}

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
  echo "installing ${missing[*]}" >&2
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "apt could not install ${missing[*]}; install them by hand and run this again" >&2
    exit 1
  fi
else
  echo "please install (names are Debian's): ${missing[*]}" >&2
  exit 1
fi
fetch_runtime
fetch_promtool
fetch_firewalld
fetch_go_client
