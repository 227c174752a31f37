#!/usr/bin/env bash
# The scenes of the demo; started by demo.sh inside fresh namespaces.
set -euo pipefail
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=stage.sh
. "$here/stage.sh"

started=$SECONDS
bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*" | sed "s#$STAGE#STAGE#g; s#$binary#trimtab#g"; "$@"; }
fail() { echo "FAILED: $*" >&2; tail -n 20 "$STAGE/log" >&2 || true; exit 1; }

bold "1  A node: namespaces of its own, a cgroup subtree with three pods, a kubelet's and a runtime's files"
stage_open
trap stage_close EXIT
stage_profile
stage_pod Guaranteed database 1000 1000 $((64 << 20)); database=$POD_PID
stage_pod Burstable web 250 500 $((32 << 20)); web=$POD_PID
stage_pod BestEffort batch 0 0 0; batch=$POD_PID
allowed() { awk '/^Cpus_allowed_list/{print $2}' "/proc/$1/status"; }
cpus() { printf '  database (Guaranteed, 1 CPU): %s   web (Burstable): %s   batch (BestEffort): %s\n' "$(allowed "$database")" "$(allowed "$web")" "$(allowed "$batch")"; }
echo "cgroup v$CGROUP_VERSION, $(nproc) CPUs; the kernel lets the processes run on:"
cpus
node=(--profile "$STAGE/profile.yaml" --state-dir "$STAGE/state" --host-root "$HOST" --cgroup-root "/$CGROUP" --node-name demo)
socket=/run/trimtab/trimtab.sock
http=127.0.0.1:9808
nat() { iptables-save -t nat | grep -v '^#' | sed 's/\[[0-9:]*\]//'; ip6tables-save -t nat | grep -v '^#' | sed 's/\[[0-9:]*\]//'; }
values() { sysctl -n net.core.somaxconn net.ipv4.tcp_rmem net.ipv4.ip_local_port_range net.ipv4.conf.all.log_martians net.ipv4.conf.lo.log_martians net.ipv4.tcp_keepalive_time kernel.shmmni; }
# The kernel lets nobody empty a v2 cpuset that has processes; given back, it holds its parent's whole set instead, which
# has the same effect. So what counts on v2 is the effective set.
[ "$CGROUP_VERSION" = 1 ] && sets='cpuset.*s' || sets='cpuset.*.effective'
originals() { values; nat; allowed "$database"; allowed "$web"; allowed "$batch"; find_cgroups -name "$sets" | sort | xargs -r grep -H . ; ls "$HOST/etc/modprobe.d"; }
before=$(originals)

bold "2  The plan: what would change, and nothing does"
status=0; run "$binary" plan "${node[@]}" || status=$?
[ "$status" = 2 ] || fail "plan ended with $status, expected 2 (something would change)"
[ "$before" = "$(originals)" ] || fail "the plan changed something"

bold "3  The daemon starts and applies it"
agent() {
  "$binary" run "${node[@]}" --socket "$socket" --http "$http" 2>>"$STAGE/log" &
  AGENT=$!
  wait_until 20 "the agent is ready" curl -fsS "http://$http/readyz" || fail "not ready"
}
agent
run "$binary" status --socket "$socket"
cpus
[ "$(sysctl -n net.core.somaxconn)" = 16384 ] || fail "somaxconn is not held"

bold "4  A second plan is empty"
run "$binary" plan "${node[@]}" || fail "the second plan is not empty"

bold "5  Drift, injected in each subsystem, is healed"
healed() { # NAME COMMAND-THAT-HOLDS...: how long until it holds again
  local name=$1 from; shift
  from=$(date +%s%N)
  wait_until 70 "$name is healed" "$@" || fail "$name was not healed"
  printf '  %-12s healed after %s ms\n' "$name" "$((($(date +%s%N) - from) / 1000000))"
}
sysctl -qw net.core.somaxconn=7
healed sysctl bash -c '[ "$(cat /proc/sys/net/core/somaxconn)" = 16384 ]'
iptables -t nat -F IP-MASQ-AGENT
healed masquerade bash -c 'iptables -t nat -S IP-MASQ-AGENT | grep -q MASQUERADE'
rm "$HOST"/etc/modprobe.d/trimtab*
healed kernel bash -c "ls $HOST/etc/modprobe.d/trimtab*"
if [ "$(nproc)" -gt 1 ]; then
  want=$(allowed "$database")
  leaf=$(grep -lx "$database" $(find_cgroups -name cgroup.procs | grep -E '/[0-9a-f]{64}/') | grep -E "cpuset|/fs/cgroup/\./" | head -n 1 | xargs dirname)
  cat "/sys/fs/cgroup/${CONTROLLERS[0]}/$CGROUP/kubepods/cpuset.cpus" >"$leaf/cpuset.cpus" 2>/dev/null || echo 0 >"$leaf/cpuset.cpus"
  healed pinning bash -c "[ \"\$(awk '/^Cpus_allowed_list/{print \$2}' /proc/$database/status)\" = '$want' ]"
fi

bold "6  kill -9 and a restart change nothing"
held=$(originals)
kill -KILL "$AGENT"; wait "$AGENT" 2>/dev/null || true
[ "$held" = "$(originals)" ] || fail "settings were lost with the agent"
agent
[ "$held" = "$(originals)" ] || fail "the restart changed something"
echo "  the node shows the same before, between and after"

bold "7  Answers: PodResources over gRPC, metrics over HTTP"
run "$binary" pods --socket "$socket"
echo "v1.PodResourcesLister/List, asked by a Python client that dials the raw path:"
/usr/bin/python3 "$here/list.py" "$socket"
run curl -fsS "http://$http/metrics" | grep -E '^trimtab_(build_info|profile_valid|pinning_cpus|subsystem_state\{.*1$|steps_total.*done)' | sort

bold "8  Rollback"
kill -TERM "$AGENT"; wait "$AGENT" || fail "the agent ended with an error"
run "$binary" rollback "${node[@]}"
after=$(originals)
[ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after") >&2 || true; fail "the rollback left something behind"; }
echo "  every value is what it was before the agent came ($(wc -l <<<"$before") lines compared)"
printf '\nThe demo took %s s.\n' "$((SECONDS - started))"
