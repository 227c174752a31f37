#!/usr/bin/env bash
# Holds this very machine, in throw-away namespaces and a temporary cgroup subtree, and shows what the daemon does.
# usage: demo.sh BINARY
set -euo pipefail
binary=$(realpath "${1:?usage: demo.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)

if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "the demo needs root to make namespaces; run it as root" >&2; exit 1; }
  exec sudo "$0" "$binary"
fi

# Everything of the machine that the profile of the demo speaks of.
machine() {
  sysctl -a 2>/dev/null | grep -E '^(net\.(core\.somaxconn|ipv4\.(tcp_rmem|ip_local_port_range|conf\..*\.log_martians|tcp_keepalive_time))|kernel\.shmmni) ' | sort
  iptables-save 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//' || true
  ip6tables-save 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//' || true
  find /sys/fs/cgroup -type d -name 'trimtab-*' 2>/dev/null
  cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
  ls /etc/modprobe.d 2>/dev/null || true
  ls -d /run/trimtab /var/lib/trimtab 2>/dev/null || true
}

before=$(machine)
status=0
unshare --net --ipc --uts --mount --pid --fork --kill-child --mount-proc bash "$here/scenes.sh" "$binary" || status=$?
after=$(machine)
if [ "$before" = "$after" ]; then
  printf '\n\033[1mThis machine is exactly as before:\033[0m %s facts compared (sysctls, NAT tables, cgroups, modprobe.d)\n' \
    "$(wc -l <<<"$before")"
else
  printf '\nthis machine has changed:\n'
  diff <(echo "$before") <(echo "$after") || true
  exit 1
fi
exit "$status"
